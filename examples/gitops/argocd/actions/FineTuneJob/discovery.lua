-- A job that is over can be neither suspended nor resumed.
local over = false
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  if (condition.type == "Complete" or condition.type == "Failed") and condition.status == "True" then
    over = true
  end
end
local suspended = obj.spec.suspend == true

local actions = {}
actions["suspend"] = {disabled = over or suspended}
actions["resume"] = {disabled = over or not suspended}
return actions
