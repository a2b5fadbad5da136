{{/* Values that contradict each other end the rendering, with what to do. */}}
{{- define "foedus.check" -}}
{{- $v := .Values -}}
{{- $root := . -}}
{{- $components := splitList " " (include "foedus.components" .) -}}
{{- $facing := splitList " " (include "foedus.peerFacing" .) -}}
{{- if not $v.hubId -}}
{{- fail "hubId is missing: give the hub its name, e.g. --set hubId=factory; its certificates carry it, so choose it once" -}}
{{- end -}}
{{- if not $v.image.repository -}}
{{- fail "image.repository is missing: build the image with make image, push it to a registry of yours, and name it, e.g. --set image.repository=registry.example.org/foedus" -}}
{{- end -}}
{{- include "foedus.checkNames" . -}}
{{- include "foedus.checkMode" . -}}
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

{{/* Kubernetes refuses the pods of a StatefulSet, and the CronJob, whose name has more than 52 characters. */}}
{{- define "foedus.checkNames" -}}
{{- $full := include "foedus.fullname" . -}}
{{- $longest := 0 -}}
{{- range $part := append (splitList " " (include "foedus.components" .)) "certificates" -}}
{{- $longest = max $longest (len $part) -}}
{{- end -}}
{{- $most := int (sub 51 $longest) -}}
{{- if gt (len $full) $most -}}
{{- fail (printf "fullnameOverride %s has %d characters, and with the names of the services that is more than Kubernetes takes: use at most %d" $full (len $full) $most) -}}
{{- end -}}
{{- $before := include "foedus.wholeName" . | trunc 40 | trimSuffix "-" -}}
{{- if and (not .Values.fullnameOverride) (ne $before $full) -}}
{{- range $component := splitList " " (include "foedus.components" .) -}}
{{- if lookup "apps/v1" "StatefulSet" $.Release.Namespace (printf "%s-%s" $before $component) -}}
{{- fail (printf "this release was installed as %s and would now be named %s, with new volumes: set fullnameOverride to %s" $before $full $before) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* An upgrade that changes the mode would start on empty volumes: the running workloads say which mode it is. */}}
{{- define "foedus.checkMode" -}}
{{- $full := include "foedus.fullname" . -}}
{{- $other := ternary "discovery" "hub" (eq .Values.mode "single") -}}
{{- $running := ternary "split" "single" (eq .Values.mode "single") -}}
{{- range $kind := list "StatefulSet" "Deployment" -}}
{{- if lookup "apps/v1" $kind $.Release.Namespace (printf "%s-%s" $full $other) -}}
{{- fail (printf "this release runs in mode %s, and a change to %s keeps no data: set mode to %s, or delete the %s %s-%s first if its data may go" $running $.Values.mode $running $kind $full $other) -}}
{{- end -}}
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
{{- if and $v.expose.sharedAddress (not (and (eq $type "LoadBalancer") (eq $v.mode "split"))) -}}
{{- fail (printf "expose.sharedAddress is for expose.type LoadBalancer in mode split, not for %s in mode %s: take it out" $type $v.mode) -}}
{{- end -}}
{{- if and (has $type (list "TLSRoute" "LoadBalancer")) (eq $v.mode "split") (not $v.expose.sharedAddress) -}}
{{- $hosts := dict -}}
{{- range $component := $facing -}}
{{- $told := include "foedus.advertised" (list $root $component) | fromJson -}}
{{- if and (hasKey $hosts $told.host) (eq $type "LoadBalancer") -}}
{{- fail (printf "%s and %s are both advertised as %s, but each of their load balancers gets an address of its own: set services.%s.advertise.host, or mode single, or expose.sharedAddress if yours share one" (get $hosts $told.host) $component $told.host $component) -}}
{{- end -}}
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
{{- fail "metrics.serviceMonitor is enabled with existing certificates: set certificates.existing.metrics to the Secret of an operator (role metrics) for Prometheus" -}}
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
{{- fail (printf "certificates.extra: the operator %s needs a role: metrics, viewer or admin" .name) -}}
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
