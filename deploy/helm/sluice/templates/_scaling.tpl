{{- /* How fast either autoscaler goes. Pods load a model first, and what runs on them is drained. */ -}}
{{- define "sluice.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleUpSeconds | int64 }}
  selectPolicy: Max
  policies:
    - {type: Percent, value: 100, periodSeconds: 60}
    - {type: Pods, value: 2, periodSeconds: 60}
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownSeconds | int64 }}
  policies:
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end -}}
