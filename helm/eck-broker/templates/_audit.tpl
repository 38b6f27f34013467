{{/*
The services in the pod of the audit. Of each entry the templates make its container, the copies of its secrets, its
volumes, ports, probes and metrics:

  name       of the container, its port and its own volumes
  port       of /livez, /readyz and /metrics
  listen     port that clients come to, if there is one
  args       of the broker's command line
  user       of Kafka, whose login is in `connection`
  secrets    folder below /run/eck-broker: name of the secret. No other container sees them
  configs    folder below /etc/eck-broker: name of the ConfigMap
  data       folder of the volume, below /var/lib/eck-broker: "rw" or "ro"; what is not named is not seen
  scratch    folder below /var/lib/eck-broker: size of an empty volume
  keyStore   name in `keyStore` of the values; none: it has no keys
  resources  as a container has them
*/}}
{{- define "eck-broker.audit.services" -}}
{{- $audit := .Values.audit -}}
{{- with $audit.logBuilder }}
- name: log-builder
  port: {{ .port | int64 }}
  args:
    - auditlog
    - run
    - --name
    - {{ $audit.name | quote }}
    - --connection
    - /run/eck-broker/connection/connection.json
    - --keys
    - /run/eck-broker/keys
    - --logs
    - /var/lib/eck-broker/auditlog
    {{- if .witnessPolicy }}
    - --policy
    - /etc/eck-broker/witnesses/policy
    {{- end }}
    {{- include "eck-broker.audit.http" .port | nindent 4 }}
  user: log-builder
  keyStore: logBuilder
  secrets:
    connection: {{ .connectionSecret }}
    keys: {{ .keysSecret }}
  {{- with .witnessPolicy }}
  configs:
    witnesses: {{ . }}
  {{- end }}
  data:
    auditlog: rw
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- with $audit.reconciler }}
- name: reconciler
  port: {{ .port | int64 }}
  args:
    - auditlog
    - watch
    - --logs
    - /var/lib/eck-broker/auditlog
    - --state
    - /var/lib/eck-broker/reconciler/state.json
    - --lateness
    - {{ .latenessSeconds | int64 | quote }}
    {{- if .partyKeys }}
    - --keys
    - /etc/eck-broker/parties/parties.vkey
    {{- end }}
    {{- include "eck-broker.audit.http" .port | nindent 4 }}
  {{- with .partyKeys }}
  configs:
    parties: {{ . }}
  {{- end }}
  data:
    auditlog: ro
    reconciler: rw
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- with $audit.indexer }}
- name: indexer
  port: {{ .port | int64 }}
  args:
    - auditlog
    - index
    - --logs
    - /var/lib/eck-broker/auditlog
    - --store
    - /var/lib/eck-broker/store/audit.db
    - --every
    - {{ .everySeconds | int64 | quote }}
    {{- if .persons }}
    - --connection
    - /run/eck-broker/connection/connection.json
    - --keys
    - /run/eck-broker/keys
    {{- end }}
    {{- include "eck-broker.audit.http" .port | nindent 4 }}
  {{- if .persons }}
  user: auditor
  keyStore: indexer
  secrets:
    connection: {{ .connectionSecret }}
    keys: {{ .keysSecret }}
  {{- end }}
  data:
    auditlog: ro
    store: rw
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- with $audit.anchor }}
{{- if .enabled }}
- name: anchor
  port: {{ .port | int64 }}
  args:
    - auditlog
    - anchor
    - --tsa
    - {{ .url | quote }}
    - --tsa-ca
    - /etc/eck-broker/authority/ca.pem
    - --logs
    - /var/lib/eck-broker/auditlog
    - --every
    - "3600"
    {{- include "eck-broker.audit.http" .port | nindent 4 }}
  configs:
    authority: {{ .authorities }}
  data:
    auditlog: ro
    auditlog/anchor: rw
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- end }}
{{- with $audit.countKeeper }}
{{- if .enabled }}
- name: count-keeper
  port: {{ .port | int64 }}
  args:
    - auditlog
    - counts
    - --name
    - {{ $audit.name | quote }}
    - --connection
    - /run/eck-broker/connection/connection.json
    {{- include "eck-broker.audit.http" .port | nindent 4 }}
  user: count-keeper
  secrets:
    connection: {{ .connectionSecret }}
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- end }}
{{- with $audit.service }}
{{- if .enabled }}
- name: audit-service
  port: {{ .port | int64 }}
  listen: {{ .listenPort | int64 }}
  args:
    - audit
    - serve
    - --store
    - /var/lib/eck-broker/store/audit.db
    - --logs
    - /var/lib/eck-broker/auditlog
    - --connection
    - /run/eck-broker/connection/connection.json
    - --keys
    - /run/eck-broker/keys
    - --state
    - /var/lib/eck-broker/vault/state
    - --cert
    - /run/eck-broker/tls/tls.crt
    - --cert-key
    - /run/eck-broker/tls/tls.key
    - --client-ca
    - /etc/eck-broker/clients/ca.pem
    - --listen
    - $(POD_IP):{{ .listenPort | int64 }}
    - --http
    - $(POD_IP):{{ .port | int64 }}
  user: audit-service
  keyStore: auditService
  secrets:
    connection: {{ .connectionSecret }}
    keys: {{ .keysSecret }}
    tls: {{ .tlsSecret }}
  configs:
    clients: {{ .clientCa }}
  # It writes nothing there, but SQLite does: the memory that readers and writer share is a file beside the store.
  data:
    auditlog: ro
    store: rw
  scratch:
    vault: {{ .stateSizeLimit }}
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The pod's own address: on loopback, the default, neither kubelet nor Prometheus comes. */}}
{{- define "eck-broker.audit.http" -}}
- --http-host
- $(POD_IP)
- --http
- {{ int64 . | quote }}
{{- end -}}

{{/* Short enough for the label that Kubernetes makes of it and a hash. */}}
{{- define "eck-broker.audit.fullname" -}}
{{- include "eck-broker.fullname" . | trunc 46 | trimSuffix "-" -}}-audit
{{- end -}}

{{- define "eck-broker.audit.selectorLabels" -}}
{{ include "eck-broker.releaseLabels" . }}
app.kubernetes.io/component: audit
{{- end -}}

{{- define "eck-broker.audit.labels" -}}
{{ include "eck-broker.audit.selectorLabels" . }}
{{ include "eck-broker.commonLabels" . }}
{{- end -}}

{{/* Stops where values that fit their schema do not fit each other; says nothing else. */}}
{{- define "eck-broker.audit.check" -}}
{{- if not .Values.audit.name }}
{{- fail "audit.name is not set. It is the first part of the names of all logs, for ever, such as broker.example/audit: choose it, or set audit.enabled to false." }}
{{- end }}
{{- $ports := list }}
{{- range include "eck-broker.audit.services" . | fromYamlArray }}
{{- $ports = append $ports .port }}
{{- with .listen }}
{{- $ports = append $ports . }}
{{- end }}
{{- end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- fail "Two services of the audit have the same port, but they are in one pod: give each its own." }}
{{- end }}
{{- $secrets := concat (list .Values.kafka.connectionSecret .Values.keys.secret) (include "eck-broker.audit.secrets" . | fromYamlArray) }}
{{- if .Values.removal.enabled }}
{{- $secrets = append $secrets .Values.removal.connectionSecret }}
{{- end }}
{{- if .Values.topics.enabled }}
{{- $secrets = append $secrets .Values.topics.connectionSecret }}
{{- end }}
{{- if ne (len $secrets) (len (uniq $secrets)) }}
{{- fail "A secret is named twice. Each service needs secrets of its own: what signs the logs must be out of the reach of what the logs are about." }}
{{- end }}
{{- end -}}

{{/* "true" where a service of the pod asks the key store. */}}
{{- define "eck-broker.audit.asksKeyStore" -}}
{{- range include "eck-broker.audit.services" . | fromYamlArray }}
{{- if .keyStore }}{{ if (get $.Values.keyStore .keyStore).key }}true{{ end }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Names of all secrets of the pod, as a list. */}}
{{- define "eck-broker.audit.secrets" -}}
{{- range include "eck-broker.audit.services" . | fromYamlArray }}
{{- range .secrets }}
- {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The container of a service. Takes `root` and `service`. */}}
{{- define "eck-broker.audit.container" -}}
{{- $root := .root }}
{{- with .service -}}
name: {{ .name }}
image: {{ include "eck-broker.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args:
  {{- toYaml .args | nindent 2 }}
env:
  - name: POD_IP
    valueFrom:
      fieldRef:
        fieldPath: status.podIP
  {{- if .keyStore }}
  {{- with include "eck-broker.keyStore.env" (dict "root" $root "service" (get $root.Values.keyStore .keyStore)) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- end }}
ports:
  - name: {{ .name }}
    containerPort: {{ .port }}
    protocol: TCP
  {{- if .listen }}
  - name: {{ .name }}-tls
    containerPort: {{ .listen }}
    protocol: TCP
  {{- end }}
startupProbe:
  httpGet:
    path: /livez
    port: {{ .name }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet:
    path: /livez
    port: {{ .name }}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
# Nobody is sent to these pods: not ready says to people that something does not fit, or is not there yet.
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ .name }}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
securityContext:
  {{- include "eck-broker.containerSecurityContext" $root | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
volumeMounts:
  {{- if .secrets }}
  - name: {{ .name }}-private
    mountPath: /run/eck-broker
    readOnly: true
  {{- end }}
  {{- range $folder, $name := .configs }}
  - name: {{ $.service.name }}-{{ $folder }}
    mountPath: /etc/eck-broker/{{ $folder }}
    readOnly: true
  {{- end }}
  {{- range $folder, $access := .data }}
  - name: data
    mountPath: /var/lib/eck-broker/{{ $folder }}
    subPath: {{ $folder }}
    readOnly: {{ eq $access "ro" }}
  {{- end }}
  {{- range $folder, $size := .scratch }}
  - name: {{ $.service.name }}-{{ $folder }}
    mountPath: /var/lib/eck-broker/{{ $folder }}
  {{- end }}
  {{- if .keyStore }}
  {{- with include "eck-broker.keyStore.mounts" (dict "root" $root "service" (get $root.Values.keyStore .keyStore) "prefix" (printf "%s-" .name)) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- end }}
  - name: {{ .name }}-tmp
    mountPath: /tmp
{{- end }}
{{- end -}}

{{/* The volumes of a service that are its own. Takes `root` and `service`. */}}
{{- define "eck-broker.audit.volumes" -}}
{{- $root := .root }}
{{- $service := .service }}
{{- with .service }}
{{- range $folder, $secret := .secrets }}
{{- if eq $folder "connection" }}
{{- include "eck-broker.loginVolumes" (dict "root" $root "prefix" (printf "%s-" $service.name) "secret" $secret) }}
{{- else }}
- name: {{ $service.name }}-{{ $folder }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0400
{{- end }}
{{- end }}
{{- range $folder, $name := .configs }}
- name: {{ $service.name }}-{{ $folder }}
  configMap:
    name: {{ $name }}
{{- end }}
{{- range $folder, $size := .scratch }}
- name: {{ $service.name }}-{{ $folder }}
  emptyDir:
    sizeLimit: {{ $size }}
{{- end }}
{{- if .keyStore }}
{{- include "eck-broker.keyStore.volumes" (dict "root" $root "service" (get $root.Values.keyStore .keyStore) "prefix" (printf "%s-" .name)) }}
{{- end }}
{{- if .secrets }}
# In memory: keys are never written to a disk of the node.
- name: {{ .name }}-private
  emptyDir:
    medium: Memory
    sizeLimit: 4Mi
{{- end }}
- name: {{ .name }}-tmp
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end }}
{{- end -}}
