{{- /*
CPU threads: what the pod may use. The server itself sees the cores of the whole node, and as many
threads on a share of them would stand in each other's way.
*/ -}}
{{- define "sluice.threads" -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- $requests := .Values.resources.requests | default dict -}}
{{- $cpu := $limits.cpu | default $requests.cpu | default "" | toString -}}
{{- if .Values.server.threads -}}
{{- .Values.server.threads | int64 -}}
{{- else if hasSuffix "m" $cpu -}}
{{- divf (trimSuffix "m" $cpu) 1000 | ceil | int64 | max 1 -}}
{{- else if $cpu -}}
{{- ceil $cpu | int64 | max 1 -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{- define "sluice.modelPath" -}}
{{- if eq .Values.model.source "bundled" -}}
/models/demo
{{- else -}}
{{ list "/models" .Values.model.path | compact | join "/" }}
{{- end -}}
{{- end -}}

{{- /* The socket in the pod on which probes ask for health without TLS. */ -}}
{{- define "sluice.adminAddress" -}}
unix:/run/sluice/admin.sock
{{- end -}}

{{- /* Numbers come as floating point, and would be printed with an exponent. */ -}}
{{- define "sluice.flagValue" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{- /* The command line of the server, as a YAML list. */ -}}
{{- define "sluice.flags" -}}
- --model={{ include "sluice.modelPath" . }}
{{- with .Values.model.name }}
- --model-name={{ . }}
{{- end }}
- --device={{ ternary "cuda" "cpu" (eq .Values.variant "gpu") }}
- --threads={{ include "sluice.threads" . }}
- --listen={{ .Values.listenHost }}:50051
- --metrics-listen={{ .Values.listenHost }}:9464
- --drain-limit={{ .Values.shutdown.drainSeconds | int64 }}s
{{- if .Values.tls.secretName }}
- --admin-listen={{ include "sluice.adminAddress" . }}
- --tls-cert=/etc/sluice/tls/tls.crt
- --tls-key=/etc/sluice/tls/tls.key
{{- end }}
{{- if .Values.tls.clientCaSecretName }}
- --tls-client-ca=/etc/sluice/client-ca/ca.crt
{{- end }}
{{- with .Values.apiKeys }}
{{- if .secretName }}
- --api-keys=/etc/sluice/api-keys/{{ .key }}
{{- end }}
{{- end }}
{{- range $name, $value := omit .Values.server "threads" }}
{{- if not (kindIs "invalid" $value) }}
- --{{ kebabcase $name }}={{ include "sluice.flagValue" $value }}
{{- end }}
{{- end }}
{{- end -}}
