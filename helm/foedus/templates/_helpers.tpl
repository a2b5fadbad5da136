{{- define "foedus.wholeName" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}{{- .Release.Name -}}{{- else -}}{{- printf "%s-%s" .Release.Name $name -}}{{- end -}}
{{- end -}}

{{/*
Beginning of the names of all objects, at most 33 characters: a StatefulSet's name becomes a label of its pods with 11 more, so
<this>-command-forwarding must have at most 52. What is longer is cut and ends in a digest, so that two long names stay two.
*/}}
{{- define "foedus.fullname" -}}
{{- $full := include "foedus.wholeName" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if gt (len $full) 33 -}}
{{- printf "%s-%s" ($full | trunc 26 | trimSuffix "-") (sha256sum $full | trunc 6) -}}
{{- else -}}
{{- $full | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Processes of the hub, in the order of their ports. */}}
{{- define "foedus.components" -}}
{{- if eq .Values.mode "single" -}}hub{{- else -}}{{- include "foedus.services" . -}}{{- end -}}
{{- end -}}

{{/* Those that peers connect to. */}}
{{- define "foedus.peerFacing" -}}
{{- if eq .Values.mode "single" -}}hub{{- else -}}{{- include "foedus.withSessions" . -}}{{- end -}}
{{- end -}}

{{- define "foedus.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "foedus.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "foedus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: foedus
{{- end -}}

{{/* Address that the hub listens on: :: takes IPv4 as well. */}}
{{- define "foedus.anyAddress" -}}
{{- if or (has "IPv6" .Values.ip.families) (hasSuffix "DualStack" .Values.ip.policy) -}}::{{- else -}}0.0.0.0{{- end -}}
{{- end -}}

{{- define "foedus.ipFamilies" -}}
{{- with .Values.ip.policy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.ip.families }}
ipFamilies: [{{ join ", " . }}]
{{- end }}
{{- end -}}

{{- define "foedus.image" -}}
{{- $image := .Values.image -}}
{{- $image.repository }}:{{ default .Chart.AppVersion $image.tag }}{{ with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* Secret with the certificate of one process: (list . "discovery"). */}}
{{- define "foedus.secret" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- if eq $root.Values.certificates.source "existing" -}}
{{- index $root.Values.certificates.existing $component -}}
{{- else -}}
{{- include "foedus.fullname" $root }}-{{ $component }}-tls
{{- end -}}
{{- end -}}

{{/* What peers are told of one process, as JSON {host, port}: (list . "discovery"). Port 0 is the listening one. */}}
{{- define "foedus.advertised" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
{{- $expose := $root.Values.expose -}}
{{- $service := index $root.Values.services $component -}}
{{- $own := $service.advertise | default dict -}}
{{- $host := $own.host -}}
{{- $port := int $own.port -}}
{{- if eq $expose.type "TLSRoute" -}}
{{- if not $host -}}
{{- if ne $root.Values.advertise.host "" -}}
{{- $host = ternary $root.Values.advertise.host (printf "%s.%s" $component $root.Values.advertise.host) (eq $component "hub") -}}
{{- end -}}
{{- end -}}
{{- if not $port -}}{{- $port = int $expose.gateway.port -}}{{- end -}}
{{- else if eq $expose.type "NodePort" -}}
{{- if not $port -}}{{- $port = int $service.nodePort -}}{{- end -}}
{{- end -}}
{{- dict "host" (default $root.Values.advertise.host $host) "port" $port | toJson -}}
{{- end -}}

{{/* Port of HTTP of one process, if it serves that: (list . "hub"). Empty if not. */}}
{{- define "foedus.httpPort" -}}
{{- $http := default dict (index . 0).Values.config.http -}}
{{- if and (eq (index . 1) "hub") $http.enabled -}}{{ default 18809 $http.port | int }}{{- end -}}
{{- end -}}

{{/* hub.json: the same file for every process of the hub. */}}
{{- define "foedus.config" -}}
{{- $root := . -}}
{{- $full := include "foedus.fullname" . -}}
{{- $tls := dict "ca" "/etc/foedus/tls/ca.crt" "cert" "/etc/foedus/tls/tls.crt" "key" "/etc/foedus/tls/tls.key" -}}
{{- $config := dict
  "hub_id" .Values.hubId
  "data_dir" "/var/lib/foedus/data"
  "tls" $tls
  "ops" (dict "host" (include "foedus.anyAddress" .) "port" (int .Values.ops.port) "metrics_port" (int .Values.ops.metricsPort))
  "federation_config_path" "/etc/foedus/federation/federation.json"
-}}
{{- if eq .Values.mode "single" -}}
{{- $told := include "foedus.advertised" (list . "hub") | fromJson -}}
{{- $_ := set $config "listen" (dict "host" (include "foedus.anyAddress" .) "port" (int .Values.services.hub.port)) -}}
{{- with $told.host -}}{{- $_ := set $config "advertise_host" . -}}{{- end -}}
{{- with int $told.port -}}{{- $_ := set $config "advertise_port" . -}}{{- end -}}
{{- if include "foedus.httpPort" (list . "hub") -}}{{- $_ := set $config "http" (merge (deepCopy .Values.config.http) (dict "host" (include "foedus.anyAddress" .))) -}}{{- end -}}
{{- else -}}
{{- with .Values.advertise.host -}}{{- $_ := set $config "advertise_host" . -}}{{- end -}}
{{- $services := dict -}}
{{- range $component := splitList " " (include "foedus.components" .) -}}
{{- $service := index $root.Values.services $component -}}
{{- $at := dict "host" (printf "%s-%s.%s.svc" $full $component $root.Release.Namespace) "port" (int $service.port) "cert" $tls.cert "key" $tls.key -}}
{{- if has $component (splitList " " (include "foedus.peerFacing" $root)) -}}
{{- $told := include "foedus.advertised" (list $root $component) | fromJson -}}
{{- if ne $told.host $root.Values.advertise.host -}}{{- $_ := set $at "advertise_host" $told.host -}}{{- end -}}
{{- with int $told.port -}}{{- $_ := set $at "advertise_port" . -}}{{- end -}}
{{- end -}}
{{- $_ := set $services $component $at -}}
{{- end -}}
{{- $_ := set $config "services" $services -}}
{{- end -}}
{{- $config = mergeOverwrite (deepCopy .Values.config) $config -}}
{{- if .Values.config.tls -}}{{- $_ := set $config "tls" (merge $config.tls .Values.config.tls) -}}{{- end -}}
{{- toPrettyJson $config -}}
{{- end -}}

{{/* Every certificate that the chart takes care of, as JSON: {leaves: [{secret, kind, name, dns_names?, ips?, role?, prefixes?}]}. */}}
{{- define "foedus.leaves" -}}
{{- $root := . -}}
{{- $full := include "foedus.fullname" . -}}
{{- $leaves := list -}}
{{- range $component := splitList " " (include "foedus.components" .) -}}
{{- $host := printf "%s-%s" $full $component -}}
{{- $names := list $host (printf "%s.%s" $host $root.Release.Namespace) (printf "%s.%s.svc" $host $root.Release.Namespace) -}}
{{- $ips := list -}}
{{- if has $component (splitList " " (include "foedus.peerFacing" $root)) -}}
{{- $told := include "foedus.advertised" (list $root $component) | fromJson -}}
{{- with $told.host -}}
{{- if regexMatch "^[0-9.]+$|:" . -}}{{- $ips = append $ips . -}}{{- else -}}{{- $names = append $names (lower .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $names = concat $names $root.Values.certificates.extraDnsNames | uniq -}}
{{- $ips = concat $ips $root.Values.certificates.extraIps | uniq -}}
{{- $leaf := dict "secret" (printf "%s-tls" $host) "kind" "service" "name" $component "dns_names" $names -}}
{{- if $ips -}}{{- $_ := set $leaf "ips" $ips -}}{{- end -}}
{{- $leaves = append $leaves $leaf -}}
{{- end -}}
{{- $leaves = append $leaves (dict "secret" (printf "%s-admin-tls" $full) "kind" "operator" "name" "admin" "role" "admin") -}}
{{- $leaves = append $leaves (dict "secret" (printf "%s-metrics-tls" $full) "kind" "operator" "name" "prometheus" "role" "metrics") -}}
{{- range .Values.certificates.extra -}}{{- $leaves = append $leaves . -}}{{- end -}}
{{- dict "leaves" $leaves | toJson -}}
{{- end -}}

{{- define "foedus.podSecurity" -}}
runAsNonRoot: true
{{- /* OpenShift gives each namespace a range of its own and refuses ids outside of it. */ -}}
{{- if not (.Capabilities.APIVersions.Has "security.openshift.io/v1") }}
{{- range $key, $id := .Values.podSecurity }}
{{- if not (kindIs "invalid" $id) }}
{{ $key }}: {{ int64 $id }}
{{- end }}
{{- end }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "foedus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What pods of the hub and of the Job share: where they run. */}}
{{- define "foedus.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
