{{/* The name of everything. */}}
{{- define "client-failover.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What belongs to the release, the pod of a migration too. */}}
{{- define "client-failover.ours" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What serves. */}}
{{- define "client-failover.selector" -}}
{{ include "client-failover.ours" . }}
app.kubernetes.io/component: service
{{- end -}}

{{- define "client-failover.labels" -}}
{{ include "client-failover.ours" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "client-failover.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "client-failover.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "client-failover.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A value as the environment has it: lists with commas, and whole numbers with all their digits,
which Helm holds as floats. */}}
{{- define "client-failover.text" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Whether callers are asked who they are. */}}
{{- define "client-failover.asks" -}}
{{- if not (has "none" .Values.auth) -}}yes{{- end -}}
{{- end -}}

{{/* The variables that serving and migrating have in common. */}}
{{- define "client-failover.databaseEnv" -}}
- name: DATABASE_URL
{{- if .Values.database.urlSecret.name }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.urlSecret.name }}
      key: {{ .Values.database.urlSecret.key }}
{{- else }}
  value: {{ .Values.database.url | quote }}
{{- end }}
{{- if .Values.database.directUrl }}
- name: CLIENT_FAILOVER_DATABASE_DIRECT_URL
  value: {{ .Values.database.directUrl | quote }}
{{- end }}
{{- if .Values.database.passwordSecret.name }}
- name: CLIENT_FAILOVER_DATABASE_PASSWORD_FILE
  value: /etc/client-failover/database-password/{{ .Values.database.passwordSecret.key }}
{{- end }}
{{- if .Values.database.caSecret.name }}
- name: PGSSLMODE
  value: verify-full
- name: PGSSLROOTCERT
  value: /etc/client-failover/database-ca/{{ .Values.database.caSecret.key }}
{{- end }}
{{- range $name := list "pooler" "operation-timeout" "idle-in-transaction-timeout" "log" "log-format" }}
{{- if hasKey $.Values.settings $name }}
- name: CLIENT_FAILOVER_{{ $name | replace "-" "_" | upper }}
  value: {{ include "client-failover.text" (get $.Values.settings $name) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The volumes of the Secrets that the database needs, and where they are mounted. Whole folders:
a file that is mounted alone would stay as it was. */}}
{{- define "client-failover.databaseVolumes" -}}
{{- range $folder := list "password" "ca" }}
{{- $secret := index $.Values.database (printf "%sSecret" $folder) }}
{{- if $secret.name }}
- name: database-{{ $folder }}
  secret:
    secretName: {{ $secret.name }}
    defaultMode: 0440
    items:
      - key: {{ $secret.key }}
        path: {{ $secret.key }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "client-failover.databaseMounts" -}}
{{- range $folder := list "password" "ca" }}
{{- if (index $.Values.database (printf "%sSecret" $folder)).name }}
- name: database-{{ $folder }}
  mountPath: /etc/client-failover/database-{{ $folder }}
  readOnly: true
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The same for all that serving needs. */}}
{{- define "client-failover.volumes" -}}
{{ include "client-failover.databaseVolumes" . }}
{{- with .Values.tls.secret }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- range $name, $file := .Values.files }}
- name: {{ $name }}
  {{- if $file.secret }}
  secret:
    secretName: {{ $file.secret }}
  {{- else }}
  configMap:
    name: {{ $file.configMap }}
  {{- end }}
    defaultMode: 0440
    items:
      - key: {{ $file.key }}
        path: {{ $file.key }}
{{- end }}
{{- end -}}

{{- define "client-failover.mounts" -}}
{{ include "client-failover.databaseMounts" . }}
{{- if .Values.tls.secret }}
- name: tls
  mountPath: /etc/client-failover/tls
  readOnly: true
{{- end }}
{{- range $name, $file := .Values.files }}
- name: {{ $name }}
  mountPath: /etc/client-failover/{{ $name }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* As the "restricted" standard for pods wants it. */}}
{{- define "client-failover.podSecurity" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .Values.userId) }}
runAsUser: {{ int64 .Values.userId }}
runAsGroup: {{ int64 .Values.userId }}
fsGroup: {{ int64 .Values.userId }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "client-failover.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The TCP port of a URL, with the one of its scheme where it names none. */}}
{{- define "client-failover.port" -}}
{{- $url := urlParse . -}}
{{- $named := regexFind ":[0-9]+$" $url.host -}}
{{- if $named -}}
{{- trimPrefix ":" $named -}}
{{- else if eq $url.scheme "http" -}}80{{- else -}}443{{- end -}}
{{- end -}}

{{/* The ports of PostgreSQL, each once, with commas between. */}}
{{- define "client-failover.databasePorts" -}}
{{- $ports := list -}}
{{- range list .Values.database.url .Values.database.directUrl -}}
{{- if . -}}
{{- $hosts := . | trimPrefix "postgresql://" | trimPrefix "postgres://" | splitList "/" | first | splitList "@" | last -}}
{{- range splitList "," $hosts -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "5432") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.database.urlSecret.name -}}
{{- $ports = append $ports "5432" -}}
{{- end -}}
{{- if .Values.networkPolicy.databasePorts -}}
{{- $ports = list -}}
{{- range .Values.networkPolicy.databasePorts -}}
{{- $ports = append $ports (include "client-failover.text" .) -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end -}}

{{/* What would open the service, or would not start, ends the render. */}}
{{- define "client-failover.check" -}}
{{- $auth := .Values.auth -}}
{{- $files := .Values.files -}}
{{- $settings := .Values.settings -}}
{{- $database := .Values.database -}}
{{- if not $auth -}}
{{- fail "auth is not set: say how callers are recognised, as --set 'auth={api-key}' (or oidc, basic, certificate); --set 'auth={none}' lets everybody who reaches the port do everything" -}}
{{- end -}}
{{- if and (has "none" $auth) (gt (len $auth) 1) -}}
{{- fail "auth has none and another method: leave one of the two out" -}}
{{- end -}}
{{- if and (has "oidc" $auth) (not (and (hasKey $settings "oidc-issuer") (hasKey $settings "oidc-audience"))) -}}
{{- fail "auth has oidc: set settings.oidc-issuer and settings.oidc-audience" -}}
{{- end -}}
{{- if and (has "basic" $auth) (not (hasKey $files "users-file")) -}}
{{- fail "auth has basic: set files.users-file, as {secret: NAME, key: users.toml}" -}}
{{- end -}}
{{- if and (has "certificate" $auth) (not (and .Values.tls.secret (hasKey $files "tls-client-ca") (hasKey $files "subjects-file"))) -}}
{{- fail "auth has certificate: set tls.secret, files.tls-client-ca and files.subjects-file" -}}
{{- end -}}
{{- if not (or $database.url $database.urlSecret.name) -}}
{{- fail "the database is not set: give database.url (without a password, which database.passwordSecret.name has), or database.urlSecret.name" -}}
{{- end -}}
{{- if and $database.url $database.urlSecret.name -}}
{{- fail "database.url and database.urlSecret.name are both set: leave one of the two out" -}}
{{- end -}}
{{- if and $database.passwordSecret.name (not $database.url) -}}
{{- fail "database.passwordSecret.name is set without database.url: a URL in a Secret holds its password" -}}
{{- end -}}
{{- range $name, $url := dict "database.url" $database.url "database.directUrl" $database.directUrl -}}
{{- if or (regexMatch "^[a-z]+://[^/@]*:[^/@]*@" $url) (regexMatch "[?&]password=" $url) -}}
{{- fail (printf "%s holds a password, which everybody could read who may look at the Deployment: put it into a Secret and name that in database.passwordSecret.name" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled is set without ingress.hosts: give the names by which the service is asked for" -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.networkPolicy.enabled (not (or .Values.networkPolicy.ingressNamespace .Values.networkPolicy.from)) -}}
{{- fail "ingress.enabled is set and the NetworkPolicy keeps its controller out: set networkPolicy.ingressNamespace to the controller's namespace" -}}
{{- end -}}
{{- if not .Values.allowPlainHttp -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.tlsSecret) -}}
{{- fail "the Ingress has no TLS, and keys and passwords would leave the cluster unencrypted: set ingress.tlsSecret, or allowPlainHttp=true" -}}
{{- end -}}
{{- if and (ne .Values.service.type "ClusterIP") (not .Values.tls.secret) -}}
{{- fail (printf "a Service of type %s is reached from outside of the cluster without TLS: set tls.secret, or allowPlainHttp=true" .Values.service.type) -}}
{{- end -}}
{{- end -}}
{{- if .Values.monitoring.serviceMonitor.enabled -}}
{{- if not (or (has "none" $auth) (has "api-key" $auth) (has "oidc" $auth)) -}}
{{- fail "monitoring.serviceMonitor.enabled is set, and auth knows nothing that Prometheus could show: add api-key to auth" -}}
{{- end -}}
{{- if and (include "client-failover.asks" .) (not .Values.monitoring.serviceMonitor.keySecret.name) -}}
{{- fail "monitoring.serviceMonitor.enabled is set, and Prometheus would be asked who it is: make a key with `client-failover keys create prometheus --role metrics`, put it into a Secret, and name that in monitoring.serviceMonitor.keySecret.name" -}}
{{- end -}}
{{- if hasKey $settings "allowed-hosts" -}}
{{- fail "monitoring.serviceMonitor.enabled and settings.allowed-hosts are both set: Prometheus asks each pod by its address, which is no allowed host. Leave one of the two out" -}}
{{- end -}}
{{- end -}}
{{- end -}}
