{{- define "auth-gateway.labels" -}}
app.kubernetes.io/name: auth-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "auth-gateway.selector" -}}
app.kubernetes.io/name: auth-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
