{{/* The services of a hub, generated from services/hub/services.ts by `make generate`. */}}

{{/* All, in the order of their ports. */}}
{{- define "foedus.services" -}}discovery registry-sync command-forwarding telemetry coordination{{- end -}}

{{/* Those that have sessions with peers, which connect to them. */}}
{{- define "foedus.withSessions" -}}discovery registry-sync command-forwarding coordination{{- end -}}

{{/* Who calls whom inside a split hub, as JSON. */}}
{{- define "foedus.calls" -}}{"discovery":["telemetry"],"registry-sync":["discovery","telemetry"],"command-forwarding":["discovery","registry-sync","telemetry","coordination"],"telemetry":["discovery"],"coordination":["discovery","telemetry"]}{{- end -}}
