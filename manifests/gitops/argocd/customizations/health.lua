-- What Argo CD shows of our three kinds, by their conditions. Healthy is converged and at work:
-- versions come and go all day, so one on trial changes nothing. Suspended is what waits: for a
-- person, for a window, for a robot to be switched on. Degraded is what somebody should look at.
local function health(status, ...)
  local said = {}
  for _, text in ipairs({...}) do
    if text ~= "" then
      table.insert(said, text)
    end
  end
  return {status = status, message = table.concat(said, " ")}
end

local metadata, status = obj.metadata, obj.status or {}
if metadata.deletionTimestamp ~= nil then
  return health("Progressing", "It is being deleted.")
end
if status.observedGeneration ~= metadata.generation then
  return health("Progressing", "The operator has not seen this generation yet.")
end

local holds, found = {}, {}  -- a condition's message while it is True; all that there are
for _, one in ipairs(status.conditions or {}) do
  found[one.type] = one
  holds[one.type] = one.status == "True" and (one.message or "") or nil
end
local ready, rollout = found.Ready or {}, status.rollout or {}
local message = rollout.message or status.message or ""
if holds.Stalled then
  return health("Degraded", holds.Stalled)
end
if status.phase == "RolledBack" then
  return health("Degraded", message)
end
if not holds.Ready then
  if ready.reason == "HeartbeatMissing" then
    return health("Suspended", ready.message)
  end
  if status.phase == "Candidate" then
    return health("Suspended", message)
  end
  return health("Progressing", obj.kind == "PolicyVersion" and message or ready.message or "")
end
if holds.Suspended then
  return health("Suspended", holds.Suspended)
end
local waits = {Waiting = true, Frozen = true, Paused = true}
if waits[rollout.phase] then
  return health("Suspended", message ~= "" and message or "The rollout is paused.")
end
if holds.Complete then
  return health("Healthy", holds.Complete)
end
return health("Healthy", message ~= "" and message or holds.Ready, holds.FleetDegraded or "")
