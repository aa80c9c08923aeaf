-- What can be done now: a moving canary is steered, one that was rolled back can be tried again.
local status = obj.status or {}
local canary = status.canary
local moving = canary ~= nil and canary.rollback == nil
local rolled_back = canary ~= nil and canary.rollback ~= nil
local stopped = moving and canary.waitsFor ~= nil and canary.waitsFor ~= ""
local paused = moving and status.state == "Paused"

local actions = {}
actions["abort"] = {disabled = not moving}
actions["promote"] = {disabled = not moving}
actions["promote-full"] = {disabled = not moving}
actions["skip-step"] = {disabled = not moving}
actions["pause"] = {disabled = not moving or canary.held == true}
actions["resume"] = {disabled = not paused}
actions["retry"] = {disabled = not (rolled_back or stopped)}
return actions
