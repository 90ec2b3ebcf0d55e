{{- /* Fetches the model, then compares it with its checksums: any tool, no trust in it. */ -}}
{{- define "sluice.downloadContainers" -}}
{{- with .Values.model.download -}}
- name: download
  image: {{ .image }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  {{- with .command }}
  command: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .args }}
  args: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .env }}
  env: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .resources }}
  resources: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- include "sluice.containerSecurity" $ | nindent 4 }}
  volumeMounts:
    - {name: model, mountPath: /models}
    - {name: download-tmp, mountPath: /tmp}
- name: verify
  image: {{ include "sluice.image" $ }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  workingDir: /models
  command: [sha256sum, --check, --strict, --quiet, /etc/sluice/checksums/SHA256SUMS]
  resources:
    requests: {cpu: 500m, memory: 64Mi}
    limits: {memory: 64Mi}
  securityContext: {{- include "sluice.containerSecurity" $ | nindent 4 }}
  volumeMounts:
    - {name: model, mountPath: /models, readOnly: true}
    - {name: checksums, mountPath: /etc/sluice/checksums, readOnly: true}
{{- end -}}
{{- end -}}
