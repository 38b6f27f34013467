{{- define "eck-broker.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "eck-broker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "eck-broker.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "eck-broker.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of all pods of the release, workers or not. */}}
{{- define "eck-broker.releaseLabels" -}}
app.kubernetes.io/name: {{ include "eck-broker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "eck-broker.selectorLabels" -}}
{{ include "eck-broker.releaseLabels" . }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "eck-broker.removalLabels" -}}
{{ include "eck-broker.releaseLabels" . }}
app.kubernetes.io/component: removal
{{- end -}}

{{- define "eck-broker.topicsLabels" -}}
{{ include "eck-broker.releaseLabels" . }}
app.kubernetes.io/component: topics
{{- end -}}

{{- define "eck-broker.mirrorLabels" -}}
{{ include "eck-broker.releaseLabels" . }}
app.kubernetes.io/component: mirror
{{- end -}}

{{- define "eck-broker.labels" -}}
{{ include "eck-broker.selectorLabels" . }}
{{ include "eck-broker.commonLabels" . }}
{{- end -}}

{{- define "eck-broker.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: eck-broker
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "eck-broker.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "eck-broker.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "eck-broker.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/*
A text that changes when one of `secrets` does, or one of the ConfigMaps `configs`. Made of the secrets' versions, not of what is in them: a hash of a
password in an annotation would let anyone who reads pods guess at it. Without a cluster `lookup` finds nothing,
and `secretsRevision` is what is left.
*/}}
{{- define "eck-broker.checksumOf" -}}
{{- $versions := list .root.Values.secretsRevision -}}
{{- range .secrets -}}
{{- $found := lookup "v1" "Secret" $.root.Release.Namespace . | default dict -}}
{{- $versions = append $versions (printf "%s/%s" . (dig "metadata" "resourceVersion" "" $found)) -}}
{{- end -}}
{{- range .configs -}}
{{- $found := lookup "v1" "ConfigMap" $.root.Release.Namespace . | default dict -}}
{{- $versions = append $versions (printf "configmap %s/%s" . (dig "metadata" "resourceVersion" "" $found)) -}}
{{- end -}}
{{- $versions | toJson | sha256sum -}}
{{- end -}}

{{/*
An init container that copies secrets to where only their container sees them.

The broker refuses key and connection files that group or others can read, and no mode of a mounted secret gives it what
it wants. Such files belong to root: 0400 alone keeps our user out, and with fsGroup the kubelet adds the group's right
to read (0400 becomes 0440). So the files are copied: in memory, in a folder of 0700, as 0400, by and for the user of
the pod.

Where logins come from Strimzi, connection.json is made here too, of what its User Operator put into the secret.

Takes `root`; `name`, of the container; `private`, the volume that the copies go to; `folders`, each made of the volume
of that name, with `prefix` before it; `user`, of Kafka, if `connection` is among the folders.
*/}}
{{- define "eck-broker.privateCopies" -}}
{{- $strimzi := and .root.Values.kafka.strimzi.enabled (has "connection" .folders) }}
{{- $folders := ternary (concat .folders (list "cluster-ca")) .folders $strimzi }}
name: {{ .name }}
image: {{ include "eck-broker.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command:
  - python
  - -I
  - -c
  - |
    {{- .root.Files.Get "files/private_copies.py" | trim | nindent 4 }}
  - /run/eck-broker
  {{- if $strimzi }}
  - --login
  - {{ .root.Values.kafka.strimzi.bootstrapServers | quote }}
  - {{ .user }}
  {{- end }}
  {{- range $folders }}
  - /run/mounted/{{ . }}
  {{- end }}
securityContext:
  {{- include "eck-broker.containerSecurityContext" .root | nindent 2 }}
resources:
  requests:
    cpu: 10m
    memory: 32Mi
  limits:
    memory: 64Mi
volumeMounts:
  - name: {{ .private }}
    mountPath: /run/eck-broker
  {{- range $folders }}
  - name: {{ $.prefix }}{{ . }}
    mountPath: /run/mounted/{{ . }}
    readOnly: true
  {{- end }}
{{- end -}}

{{/*
The volumes of a login. Takes `root`; `prefix`, of their names; `secret`. Of Strimzi's secrets only what is needed is mounted.
*/}}
{{- define "eck-broker.loginVolumes" -}}
{{- $strimzi := .root.Values.kafka.strimzi }}
- name: {{ .prefix }}connection
  secret:
    secretName: {{ .secret }}
    defaultMode: 0400
    {{- if $strimzi.enabled }}
    items:
      - key: password
        path: password
    {{- end }}
{{- if $strimzi.enabled }}
- name: {{ .prefix }}cluster-ca
  secret:
    secretName: {{ $strimzi.clusterCaSecret }}
    defaultMode: 0400
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
{{- end -}}

{{/* The volumes in memory that every pod of one container has. Keys are never written to a disk of the node. */}}
{{- define "eck-broker.memoryVolumes" -}}
- name: private
  emptyDir:
    medium: Memory
    sizeLimit: 4Mi
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end -}}

{{/* Who may read the metrics, as a peer of a NetworkPolicy. */}}
{{- define "eck-broker.metricsFrom" -}}
{{- $metrics := .Values.networkPolicy.metrics -}}
- namespaceSelector:
    matchLabels:
      {{- toYaml $metrics.namespaceLabels | nindent 6 }}
  {{- with $metrics.podLabels }}
  podSelector:
    matchLabels:
      {{- toYaml . | nindent 6 }}
  {{- end }}
{{- end -}}

{{/* Of pods; not in the values but for the users, since nothing here needs less. */}}
{{- define "eck-broker.podSecurityContext" -}}
runAsNonRoot: {{ .Values.podSecurityContext.runAsNonRoot }}
{{- with .Values.podSecurityContext.runAsUser }}
runAsUser: {{ int64 . }}
{{- end }}
{{- with .Values.podSecurityContext.runAsGroup }}
runAsGroup: {{ int64 . }}
{{- end }}
{{- with .Values.podSecurityContext.fsGroup }}
fsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where pods run and what they may pull. */}}
{{- define "eck-broker.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The level "restricted"; not in the values, since nothing here needs less. */}}
{{- define "eck-broker.containerSecurityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* "true" where a ScaledObject is made: wanted, and the cluster knows what it is. */}}
{{- define "eck-broker.scaledByKeda" -}}
{{- if and .Values.autoscaling.keda.enabled (.Capabilities.APIVersions.Has "keda.sh/v1alpha1") }}true{{ end -}}
{{- end -}}

{{/*
More settings of a worker, by reference only. Takes what the values name, unless the chart sets it itself: the later of two of one
name would win.
*/}}
{{- define "eck-broker.extraEnv" -}}
{{- $own := list "BROKER_CONNECTION" "BROKER_KEYS" "BROKER_STATE" "BROKER_GROUP" "BROKER_LOG_LEVEL" "BROKER_BATCH_RECORDS" "BROKER_BATCH_BYTES" "BROKER_VIEW_AGE_S" "BROKER_PATIENCE_S" "BROKER_HTTP_HOST" "BROKER_HTTP_PORT" }}
{{- range .Values.worker.extraEnv }}
{{- if or (has .name $own) (and $.Values.keyStore.worker.key (hasPrefix "BROKER_TRANSIT_" .name)) }}
{{- fail (printf "worker.extraEnv has %s, which the chart sets itself: use the value that is for it." .name) }}
{{- end }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end -}}
