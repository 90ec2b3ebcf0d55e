{{- /* What no schema can say, since it lies between two values. Rendered once, by the Deployment. */ -}}
{{- define "sluice.checks" -}}
{{- $v := .Values -}}
{{- if and $v.autoscaling.hpa.enabled $v.autoscaling.keda.enabled -}}
{{- fail "autoscaling.hpa.enabled and autoscaling.keda.enabled: two autoscalers would fight over the replicas; enable one" -}}
{{- end -}}
{{- if gt (int64 $v.autoscaling.minReplicas) (int64 $v.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %d, more than autoscaling.maxReplicas, %d" (int64 $v.autoscaling.minReplicas) (int64 $v.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and $v.monitoring.serviceMonitor.enabled $v.monitoring.podMonitor.enabled -}}
{{- fail "monitoring.serviceMonitor.enabled and monitoring.podMonitor.enabled: every pod would be scraped twice; enable one" -}}
{{- end -}}
{{- $least := include "sluice.leastReplicas" . | int64 -}}
{{- $available := $v.podDisruptionBudget.minAvailable -}}
{{- if and $v.podDisruptionBudget.enabled (not (kindIs "invalid" $available)) (not (kindIs "string" $available)) (ge (int64 $available) $least) -}}
{{- fail (printf "podDisruptionBudget.minAvailable is %d, but there may be no more than %d pods: no node could ever be drained" (int64 $available) $least) -}}
{{- end -}}
{{- if and (eq $v.model.source "download") $v.networkPolicy.enabled (not $v.networkPolicy.egress) -}}
{{- fail "networkPolicy.egress is empty, so that the init container of model.source download reaches nothing; list what it needs" -}}
{{- end -}}
{{- if and $v.tls.clientCaSecretName (not $v.tls.secretName) -}}
{{- fail "tls.clientCaSecretName is set, but tls.secretName is not: there is no mutual TLS without TLS" -}}
{{- end -}}
{{- end -}}

{{- define "sluice.isAutoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled -}}yes{{- end -}}
{{- end -}}

{{- define "sluice.leastReplicas" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicas (eq (include "sluice.isAutoscaled" .) "yes") | int64 -}}
{{- end -}}

{{- define "sluice.graceSeconds" -}}
{{- $s := .Values.shutdown -}}
{{- $least := add (int64 $s.preStopSeconds) (int64 $s.drainSeconds) (int64 $s.marginSeconds) -}}
{{- $grace := ternary $least $s.graceSeconds (kindIs "invalid" $s.graceSeconds) | int64 -}}
{{- if lt $grace $least -}}
{{- fail (printf "shutdown.graceSeconds is %d, less than preStopSeconds %d + drainSeconds %d + marginSeconds %d: running requests would be killed" $grace (int64 $s.preStopSeconds) (int64 $s.drainSeconds) (int64 $s.marginSeconds)) -}}
{{- end -}}
{{- $grace -}}
{{- end -}}
