{{- /* What Kubernetes calls the restricted profile; nothing of it is a value but the ids. */ -}}
{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
{{- range $name, $id := .Values.podSecurity }}
{{- if not (kindIs "invalid" $id) }}
{{ $name }}: {{ int64 $id }}
{{- end }}
{{- end }}
{{- if not (kindIs "invalid" .Values.podSecurity.fsGroup) }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
