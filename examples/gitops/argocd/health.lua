-- Health of every kind of trimtab.dev: Ready, Reconciling and Stalled decide, as in kstatus; what waits for a person is Suspended.
local health = {status = "Progressing", message = "Waiting for the operator."}
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  health.message = "The operator has not seen this spec yet."
  return health
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local function holds(kind)
  return found[kind] ~= nil and found[kind].status == "True"
end

if holds("Stalled") then
  return {status = "Degraded", message = found["Stalled"].message}
end
if holds("Suspended") then
  return {status = "Suspended", message = found["Suspended"].message}
end
if status.state == "Paused" then
  return {status = "Suspended", message = found["Ready"].message}
end
if holds("Ready") and not holds("Reconciling") then
  health = {status = "Healthy", message = found["Ready"].message}
  if found["Promotable"] ~= nil and found["Promotable"].status == "False" then
    health.message = "Not promotable: " .. found["Promotable"].message
  end
  return health
end
local says = holds("Ready") and found["Reconciling"] or found["Ready"]
if says ~= nil then
  health.message = says.message
end
return health
