{{/*
What values change in a DaemonSet of the base. The files of deploy/base are the only source of the objects; a template
reads one and sets what the values say.
*/}}
{{- define "sluicegate.common" -}}
{{- $values := .root.Values -}}
{{- $spec := .daemonset.spec.template.spec -}}
{{- $main := first $spec.containers -}}
{{- $_ := set .daemonset.metadata "namespace" .root.Release.Namespace -}}
{{- $_ := set $main "image" (printf "%s:%s" $values.image.repository (default .root.Chart.AppVersion $values.image.tag)) -}}
{{- $_ := set $main "imagePullPolicy" $values.image.pullPolicy -}}
{{- with .part.resources }}{{ $_ := set $main "resources" . }}{{ end -}}
{{- with .part.nodeSelector }}{{ $_ := set $spec "nodeSelector" (merge (deepCopy .) $spec.nodeSelector) }}{{ end -}}
{{- if $values.image.pullSecrets -}}
{{- $secrets := list -}}
{{- range $values.image.pullSecrets }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{- $_ := set $spec "imagePullSecrets" $secrets -}}
{{- end -}}
{{- end -}}
