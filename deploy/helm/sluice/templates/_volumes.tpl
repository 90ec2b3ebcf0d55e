{{- /* Secrets are mounted as directories: files of a directory follow the Secret, a subPath does not. */ -}}
{{- define "sluice.mounts" -}}
{{- with .Values.tls -}}
{{- if .secretName }}
- {name: tls, mountPath: /etc/sluice/tls, readOnly: true}
- {name: run, mountPath: /run/sluice}
{{- end }}
{{- if .clientCaSecretName }}
- {name: client-ca, mountPath: /etc/sluice/client-ca, readOnly: true}
{{- end }}
{{- end }}
{{- if .Values.apiKeys.secretName }}
- {name: api-keys, mountPath: /etc/sluice/api-keys, readOnly: true}
{{- end }}
{{- if ne .Values.model.source "bundled" }}
- {name: model, mountPath: /models, readOnly: true}
{{- end }}
{{- end -}}

{{- define "sluice.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - {key: {{ . | quote }}, path: {{ . | quote }}}
      {{- end }}
{{- end -}}

{{- define "sluice.volumes" -}}
{{- with .Values.tls -}}
{{- if .secretName }}
{{ include "sluice.secretVolume" (dict "name" "tls" "secret" .secretName "keys" (list "tls.crt" "tls.key")) }}
- name: run
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- if .clientCaSecretName }}
{{ include "sluice.secretVolume" (dict "name" "client-ca" "secret" .clientCaSecretName "keys" (list "ca.crt")) }}
{{- end }}
{{- end }}
{{- with .Values.apiKeys }}
{{- if .secretName }}
{{ include "sluice.secretVolume" (dict "name" "api-keys" "secret" .secretName "keys" (list .key)) }}
{{- end }}
{{- end }}
{{- if eq .Values.model.source "claim" }}
- name: model
  persistentVolumeClaim:
    claimName: {{ .Values.model.claim.name }}
    readOnly: true
{{- else if eq .Values.model.source "download" }}
- name: model
  emptyDir: {sizeLimit: {{ .Values.model.download.size }}}
- name: download-tmp
  emptyDir: {sizeLimit: {{ .Values.model.download.size }}}
- name: checksums
  configMap:
    name: {{ include "sluice.fullname" . }}-checksums
{{- end }}
{{- end -}}
