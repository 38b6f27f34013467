{{/*
A key store in the network that unwraps the keys of a service (docs/howto/keys-in-vault.md). Each takes `root`; `service`, as
keyStore has it; `prefix`, of the names of volumes. All are empty where this service's keys lie in clear.
*/}}

{{/* Stops where values that fit their schema do not fit each other; says nothing else. */}}
{{- define "eck-broker.keyStore.check" -}}
{{- $store := .Values.keyStore }}
{{- $logins := list }}
{{- range $name := list "worker" "logBuilder" "indexer" "auditService" }}
{{- $service := get $store $name }}
{{- $ways := compact (list $service.kubernetesRole $service.appRoleSecret $service.tokenSecret) }}
{{- if and (or $service.key $ways) (not $store.address) }}
{{- fail (printf "keyStore.%s is set, but not keyStore.address." $name) }}
{{- end }}
{{- if and $service.key (ne (len $ways) 1) }}
{{- fail (printf "keyStore.%s needs one way to log in, and not two: kubernetesRole (of workers only), appRoleSecret or tokenSecret." $name) }}
{{- end }}
{{- if and $ways (not $service.key) }}
{{- fail (printf "keyStore.%s has a login, but no key: name the transit key that wraps its keys." $name) }}
{{- end }}
{{- $logins = concat $logins (compact (list $service.appRoleSecret $service.tokenSecret)) }}
{{- end }}
{{- if and $store.address (not (compact (list $store.worker.key $store.logBuilder.key $store.indexer.key $store.auditService.key))) }}
{{- fail "keyStore.address is set, but no service has a key there: set keyStore.worker.key." }}
{{- end }}
{{- if ne (len $logins) (len (uniq $logins)) }}
{{- fail "Two services log in at the key store with the same secret. Each needs a login of its own: else each could open the keys of the other." }}
{{- end }}
{{- end -}}

{{- define "eck-broker.keyStore.env" -}}
{{- $store := .root.Values.keyStore }}
{{- with .service }}
{{- if .key }}
- name: BROKER_TRANSIT_ADDRESS
  value: {{ $store.address | quote }}
- name: BROKER_TRANSIT_KEY
  value: {{ .key | quote }}
- name: BROKER_TRANSIT_MOUNT
  value: {{ $store.mount | quote }}
- name: BROKER_TRANSIT_TIMEOUT_S
  value: {{ $store.timeoutSeconds | quote }}
{{- with $store.namespace }}
- name: BROKER_TRANSIT_NAMESPACE
  value: {{ . | quote }}
{{- end }}
{{- if $store.ca }}
- name: BROKER_TRANSIT_CA_FILE
  value: /etc/eck-broker/key-store/ca.pem
{{- end }}
{{- with $store.authMount }}
- name: BROKER_TRANSIT_AUTH_MOUNT
  value: {{ . | quote }}
{{- end }}
{{- if .kubernetesRole }}
- name: BROKER_TRANSIT_KUBERNETES_ROLE
  value: {{ .kubernetesRole | quote }}
- name: BROKER_TRANSIT_JWT_FILE
  value: /run/key-store-login/token
{{- else if .appRoleSecret }}
- name: BROKER_TRANSIT_ROLE_ID_FILE
  value: /run/key-store-login/role-id
- name: BROKER_TRANSIT_SECRET_ID_FILE
  value: /run/key-store-login/secret-id
{{- else }}
- name: BROKER_TRANSIT_TOKEN_FILE
  value: /run/key-store-login/token
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "eck-broker.keyStore.mounts" -}}
{{- if .service.key }}
- name: {{ .prefix }}key-store-login
  mountPath: /run/key-store-login
  readOnly: true
{{- if .root.Values.keyStore.ca }}
- name: {{ .prefix }}key-store-ca
  mountPath: /etc/eck-broker/key-store
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{/*
The login is mounted and not copied: it is read again when the key store refuses it, and may have been replaced by then. Unlike keys
it may be read by the group of the pod.
*/}}
{{- define "eck-broker.keyStore.volumes" -}}
{{- $prefix := .prefix }}
{{- with .service }}
{{- if .key }}
- name: {{ $prefix }}key-store-login
  {{- if .kubernetesRole }}
  # The one token of this service account that a pod of the release gets; only the key store takes it, if it has an audience.
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
          {{- with .kubernetesAudience }}
          audience: {{ . | quote }}
          {{- end }}
  {{- else }}
  secret:
    secretName: {{ .appRoleSecret | default .tokenSecret }}
    defaultMode: 0440
  {{- end }}
{{- with $.root.Values.keyStore.ca }}
- name: {{ $prefix }}key-store-ca
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
