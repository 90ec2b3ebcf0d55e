{{- /* Where pods may run, and how they are spread. */ -}}
{{- define "sluice.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .Values.tolerations -}}
{{- if eq .Values.variant "gpu" -}}
{{- $tolerations = append $tolerations (dict "key" .Values.gpu.resourceName "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "sluice.selector" . | fromYaml)) "matchLabelKeys" (list "pod-template-hash") -}}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ merge (deepCopy .) (ternary (dict) $own (hasKey . "labelSelector")) | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "sluice.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if eq .Values.variant "gpu" -}}
{{- $resources = mergeOverwrite $resources (dict "limits" (dict .Values.gpu.resourceName 1)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
