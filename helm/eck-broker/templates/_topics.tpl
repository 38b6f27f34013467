{{/* Stops where values that fit their schema do not fit each other; says nothing else. */}}
{{- define "eck-broker.topics.check" -}}
{{- $secrets := list .Values.kafka.connectionSecret .Values.keys.secret .Values.removal.connectionSecret }}
{{- if has .Values.topics.connectionSecret $secrets }}
{{- fail "topics.connectionSecret is the secret of somebody else. The operator's login may change all rights: no worker and no job may have it." }}
{{- end }}
{{- end -}}

{{/* A container of the job. Takes `root`, `name` and `args`. */}}
{{- define "eck-broker.topics.container" -}}
name: {{ .name }}
image: {{ include "eck-broker.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
  {{- toYaml .args | nindent 2 }}
env:
  - name: BROKER_CONNECTION
    value: /run/eck-broker/connection/connection.json
securityContext:
  {{- include "eck-broker.containerSecurityContext" .root | nindent 2 }}
resources:
  {{- toYaml .root.Values.topics.resources | nindent 2 }}
volumeMounts:
  - name: private
    mountPath: /run/eck-broker
    readOnly: true
  - name: registry
    mountPath: /etc/eck-broker/registry
    readOnly: true
  - name: tmp
    mountPath: /tmp
{{- end -}}

{{/* Of the job: what its pod is made of. */}}
{{- define "eck-broker.topics.pod" -}}
{{- $topics := .Values.topics }}
{{- $apply := dict "root" . "name" "topics" "args" (list "topics" "apply" "--json" "--registry" "/etc/eck-broker/registry") }}
metadata:
  labels:
    {{- include "eck-broker.topicsLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    eck-broker/registry-revision: {{ $topics.registryRevision | quote }}
    checksum/inputs: {{ include "eck-broker.checksumOf" (dict "root" . "secrets" (list $topics.connectionSecret) "configs" (list $topics.registry)) }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "eck-broker.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: Never
  securityContext:
    {{- include "eck-broker.podSecurityContext" . | nindent 4 }}
  {{- include "eck-broker.placement" . | nindent 2 }}
  initContainers:
    - {{ include "eck-broker.privateCopies" (dict "root" . "name" "private-copies" "private" "private" "prefix" "" "user" "operator" "folders" (list "connection")) | nindent 6 | trim }}
    {{- if $topics.applyRegistry.enabled }}
    - {{ include "eck-broker.topics.container" $apply | nindent 6 | trim }}
    {{- end }}
  containers:
    {{- if $topics.applyRegistry.enabled }}
    {{- $words := list "registry" "apply" "/etc/eck-broker/registry" "--json" "--reason" $topics.applyRegistry.reason "--operator" $topics.applyRegistry.operator }}
    - {{ include "eck-broker.topics.container" (dict "root" . "name" "registry" "args" $words) | nindent 6 | trim }}
    {{- else }}
    - {{ include "eck-broker.topics.container" $apply | nindent 6 | trim }}
    {{- end }}
  volumes:
    {{- include "eck-broker.loginVolumes" (dict "root" . "prefix" "" "secret" $topics.connectionSecret) | trim | nindent 4 }}
    - name: registry
      configMap:
        name: {{ $topics.registry }}
    {{- include "eck-broker.memoryVolumes" . | nindent 4 }}
{{- end -}}
