{{- /*
How kubelet asks grpc.health.v1. Its own gRPC probe speaks no TLS; with TLS on, the bundled client
asks over a socket inside the pod instead. That needs no client certificate, and a certificate that
has run out does not get pods restarted, which would not mend it.
*/ -}}
{{- define "sluice.probe" -}}
{{- if .root.Values.tls.secretName -}}
exec:
  command: [sluice, health, --server, {{ include "sluice.adminAddress" .root | quote }}]
timeoutSeconds: 6
{{- else -}}
grpc:
  port: 50051
timeoutSeconds: 5
{{- end }}
periodSeconds: {{ .period }}
failureThreshold: {{ .failures }}
{{- end -}}

{{- define "sluice.probes" -}}
{{- $startup := divf .Values.probes.startupSeconds 5 | ceil | int64 -}}
{{- $liveness := divf .Values.probes.livenessSeconds 10 | ceil | int64 -}}
startupProbe:
  {{- include "sluice.probe" (dict "root" . "period" 5 "failures" $startup) | nindent 2 }}
readinessProbe:
  {{- include "sluice.probe" (dict "root" . "period" 5 "failures" 2) | nindent 2 }}
livenessProbe:
  {{- include "sluice.probe" (dict "root" . "period" 10 "failures" $liveness) | nindent 2 }}
{{- end -}}
