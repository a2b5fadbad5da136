{{/* Values that contradict each other end the rendering, with what to do. */}}
{{- define "foedus.check" -}}
{{- $v := .Values -}}
{{- $root := . -}}
{{- $components := splitList " " (include "foedus.components" .) -}}
{{- $facing := splitList " " (include "foedus.peerFacing" .) -}}
{{- if not $v.hubId -}}
{{- fail "hubId is missing: give the hub its name, e.g. --set hubId=factory; its certificates carry it, so choose it once" -}}
{{- end -}}
{{- range $key := list "hub_id" "data_dir" "listen" "advertise_host" "advertise_port" "services" "ops" "federation_config_path" -}}
{{- if hasKey $v.config $key -}}
{{- fail (printf "config.%s is set by the chart: use hubId, services, advertise, expose, ops, federation or certificates instead, and take it out of config" $key) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "ca" "cert" "key" -}}
{{- if hasKey ($v.config.tls | default dict) $key -}}
{{- fail (printf "config.tls.%s is set by the chart: use certificates.source existing for certificates of your own, and take it out of config" $key) -}}
{{- end -}}
{{- end -}}
{{- $grace := ($v.config.stop_grace_ms | default 5000) | int64 -}}
{{- if ge $grace (mul (int64 $v.terminationGracePeriodSeconds) 1000) -}}
{{- fail (printf "config.stop_grace_ms is %d ms but the kubelet kills the pod after terminationGracePeriodSeconds %d: make the latter larger" $grace (int $v.terminationGracePeriodSeconds)) -}}
{{- end -}}
{{- include "foedus.checkExposure" . -}}
{{- include "foedus.checkCertificates" . -}}
{{- include "foedus.checkFederation" . -}}
{{- range $component := $components -}}
{{- $port := int (index $v.services $component).port -}}
{{- range $name, $ops := dict "ops.port" $v.ops.port "ops.metricsPort" $v.ops.metricsPort -}}
{{- if eq $port (int $ops) -}}
{{- fail (printf "services.%s.port and %s are both %d: a pod can use a port once" $component $name $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq (int $v.ops.port) (int $v.ops.metricsPort) -}}
{{- fail "ops.port and ops.metricsPort are the same: probes are plain HTTP and metrics are mutual TLS, so they need two" -}}
{{- end -}}
{{- if and $v.spread.enabled (eq $v.mode "single") -}}
{{- fail "spread.enabled has no meaning in mode single, which is one pod: use mode split, or leave spread off" -}}
{{- end -}}
{{- if and (not $v.networkPolicy.enabled) (or $v.networkPolicy.peersFrom $v.networkPolicy.clientsFrom $v.networkPolicy.metricsFrom $v.networkPolicy.peersTo $v.networkPolicy.extraEgress) -}}
{{- fail "networkPolicy has rules but enabled is false: enable it, or take the rules out" -}}
{{- end -}}
{{- end -}}

{{- define "foedus.checkExposure" -}}
{{- $v := .Values -}}
{{- $root := . -}}
{{- $type := $v.expose.type -}}
{{- $facing := splitList " " (include "foedus.peerFacing" .) -}}
{{- range $component := $facing -}}
{{- $service := index $v.services $component -}}
{{- $told := include "foedus.advertised" (list $root $component) | fromJson -}}
{{- if and (ne $type "ClusterIP") (not $told.host) -}}
{{- fail (printf "expose.type is %s but nobody is told where %s is: set advertise.host, or services.%s.advertise.host" $type $component $component) -}}
{{- end -}}
{{- if and (eq $type "NodePort") (not $told.port) -}}
{{- fail (printf "expose.type is NodePort but the port of %s is not known to peers: set services.%s.nodePort, or services.%s.advertise.port if something in front forwards to it" $component $component $component) -}}
{{- end -}}
{{- if and (ne $type "NodePort") (int $service.nodePort) -}}
{{- fail (printf "services.%s.nodePort is set but expose.type is %s: set expose.type to NodePort, or leave nodePort at 0" $component $type) -}}
{{- end -}}
{{- if and (int $service.advertise.port) (not $told.host) -}}
{{- fail (printf "services.%s.advertise.port is set but no host is advertised: set advertise.host" $component) -}}
{{- end -}}
{{- if and (eq $type "TLSRoute") (regexMatch "^[0-9.]+$|:" $told.host) -}}
{{- fail (printf "expose.type TLSRoute routes by host name, but %s is advertised as the address %s: advertise a host name" $component $told.host) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $type "TLSRoute") (not $v.expose.gateway.name) -}}
{{- fail "expose.type is TLSRoute: set expose.gateway.name to a Gateway with a TLS listener in mode Passthrough" -}}
{{- end -}}
{{- if and (ne $type "TLSRoute") $v.expose.gateway.name -}}
{{- fail (printf "expose.gateway.name is set but expose.type is %s: set expose.type to TLSRoute, or take the gateway out" $type) -}}
{{- end -}}
{{- if and (ne $type "LoadBalancer") (or $v.expose.loadBalancerClass $v.expose.loadBalancerSourceRanges) -}}
{{- fail (printf "expose.loadBalancerClass and loadBalancerSourceRanges need expose.type LoadBalancer, not %s" $type) -}}
{{- end -}}
{{- if and (eq $type "TLSRoute") (eq $v.mode "split") -}}
{{- $hosts := dict -}}
{{- range $component := $facing -}}
{{- $told := include "foedus.advertised" (list $root $component) | fromJson -}}
{{- if hasKey $hosts $told.host -}}
{{- fail (printf "%s and %s are both advertised as %s, but a TLSRoute tells them apart by host name: leave services.%s.advertise.host empty, or give each its own" (get $hosts $told.host) $component $told.host $component) -}}
{{- end -}}
{{- $_ := set $hosts $told.host $component -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "foedus.checkCertificates" -}}
{{- $v := .Values -}}
{{- $certificates := $v.certificates -}}
{{- $source := $certificates.source -}}
{{- if eq $source "existing" -}}
{{- range $component := splitList " " (include "foedus.components" .) -}}
{{- if not (index $certificates.existing $component) -}}
{{- fail (printf "certificates.source is existing: set certificates.existing.%s to a Secret with ca.crt, tls.crt and tls.key" $component) -}}
{{- end -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled (not $certificates.existing.metrics) -}}
{{- fail "metrics.serviceMonitor is enabled with existing certificates: set certificates.existing.metrics to the Secret of an operator (viewer) for Prometheus" -}}
{{- end -}}
{{- if $certificates.extra -}}
{{- fail "certificates.extra is made by bootstrap or cert-manager, but certificates.source is existing: make those Secrets yourself and take the list out" -}}
{{- end -}}
{{- else -}}
{{- range $component, $secret := $certificates.existing -}}
{{- if $secret -}}
{{- fail (printf "certificates.existing.%s is set but certificates.source is %s: set certificates.source to existing, or take it out" $component $source) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (ne $source "cert-manager") $certificates.certManager.issuerRef.name -}}
{{- fail (printf "certificates.certManager.issuerRef is set but certificates.source is %s: set certificates.source to cert-manager" $source) -}}
{{- end -}}
{{- $seen := dict -}}
{{- range (include "foedus.leaves" . | fromJson).leaves -}}
{{- if hasKey $seen .secret -}}
{{- fail (printf "certificates.extra names the Secret %s, which another certificate is kept in: choose another name" .secret) -}}
{{- end -}}
{{- $_ := set $seen .secret true -}}
{{- if and (eq .kind "operator") (not .role) -}}
{{- fail (printf "certificates.extra: the operator %s needs a role, viewer or admin" .name) -}}
{{- end -}}
{{- if and .role (ne .kind "operator") -}}
{{- fail (printf "certificates.extra: %s is a %s, and only operators have a role: take it out" .name .kind) -}}
{{- end -}}
{{- if and .prefixes (ne .kind "gateway") -}}
{{- fail (printf "certificates.extra: %s is a %s, and only gateways have prefixes: take them out" .name .kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "foedus.checkFederation" -}}
{{- $v := .Values -}}
{{- $seen := dict -}}
{{- range $v.federation.peers -}}
{{- if eq .hub_id $v.hubId -}}
{{- fail (printf "federation.peers names %s, which is this hub itself: take it out" .hub_id) -}}
{{- end -}}
{{- if hasKey $seen .hub_id -}}
{{- fail (printf "federation.peers names %s twice: leave one" .hub_id) -}}
{{- end -}}
{{- $_ := set $seen .hub_id true -}}
{{- end -}}
{{- if and (eq $v.federation.managedBy "hub") (not $v.persistence.enabled) -}}
{{- fail "federation.managedBy is hub, which keeps the list of peers on a volume, but persistence.enabled is false: enable it, or manage peers by values" -}}
{{- end -}}
{{- end -}}
