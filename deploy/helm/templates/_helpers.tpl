{{- /* The name of all objects: that of the release. */ -}}
{{- define "ingestd.name" -}}
{{ .Values.nameOverride | default .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{- /* What selectors look for. */ -}}
{{- define "ingestd.selector" -}}
app.kubernetes.io/name: ingestd
{{- if ne .Release.Name "ingestd" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- end -}}

{{- define "ingestd.labels" -}}
{{ include "ingestd.selector" . }}
app.kubernetes.io/part-of: ingestd
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
