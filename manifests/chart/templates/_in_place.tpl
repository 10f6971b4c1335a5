{{- /* What kustomize puts on each object, in place; prints nothing. */}}
{{- define "fleetloop.label" -}}
{{- $labels := get .metadata "labels" | default dict }}
{{- $_ := set .metadata "labels" (set $labels "app.kubernetes.io/part-of" "fleetloop") }}
{{- end }}
{{- /* Values into the operator's pod, in place; prints nothing. */}}
{{- define "fleetloop.tell" -}}
{{- $pod := .pod.spec }}
{{- $values := .values }}
{{- $container := first $pod.containers }}
{{- $image := $values.image }}
{{- $at := ternary (printf "@%s" $image.digest) (printf ":%s" $image.tag) (ne $image.digest "") }}
{{- $_ := set $container "image" (printf "%s%s" $image.repository $at) }}
{{- $_ := set $container "imagePullPolicy" $image.pullPolicy }}
{{- if $values.resources }}{{ $_ := set $container "resources" $values.resources }}{{ end }}
{{- $told := dict
  "FLEET_NATS_URL" $values.nats.url
  "FLEET_STORAGE_URL" $values.storage.url
  "FLEET_STORAGE_SECRET" $values.storage.secret
  "FLEET_LEARNER_IMAGE" $values.learnerImage
  "FLEET_ROBOT_IMAGE" $values.robotImage }}
{{- $told = merge (deepCopy $values.env) $told }}
{{- $env := list }}
{{- range $one := $container.env }}
{{- if not (hasKey $told $one.name) }}{{ $env = append $env $one }}{{ end }}
{{- end }}
{{- range $name, $value := $told }}
{{- if $value }}{{ $env = append $env (dict "name" $name "value" (toString $value)) }}{{ end }}
{{- end }}
{{- $_ := set $container "env" $env }}
{{- range $key := list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- if get $values $key }}{{ $_ := set $pod $key (get $values $key) }}{{ end }}
{{- end }}
{{- $labels := merge .pod.metadata.labels $values.podLabels }}
{{- $_ := set .pod.metadata "labels" $labels }}
{{- if $values.podAnnotations }}{{ $_ := set .pod.metadata "annotations" $values.podAnnotations }}{{ end }}
{{- end }}
