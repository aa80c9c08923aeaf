-- Each value of the annotation is carried out once: the time makes it a new one.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["rollouts.trimtab.dev/action"] = "resume@" .. os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
