-- Counts what was answered, by hour, target, function, variant and status; and shows it.
--
--   show pmoves-counts   (admin socket)  "2026-11-25T17|gen-a|chat|local|200 12", one line each, of the last 25 h
--   GET /metrics                         the same without the hour, since this process started, for Prometheus
--
-- An answer says itself who gave it, in `model`: tensorzero::function_name::F::variant_name::V. What else it
-- holds never gets here, and what does not look like a name of a config counts as none.

local KEPT_S = 25 * 3600
local MOST_KEYS = 10000
local LONGEST_NAME = 128
local METRIC = "pmoves_gateway_requests_total"

local hours = {}  -- hour -> key -> requests
local totals = {} -- key -> requests
local keys_in_totals = 0
local purged_in = ""

local function hour_of(time)
  return os.date("!%Y-%m-%dT%H", time)
end

local function name(text)
  if text == nil or #text > LONGEST_NAME or text:find("[^%w%._:/@+-]") then
    return ""
  end
  return text
end

local function function_and_variant(model)
  if model == nil then
    return "", ""
  end
  local asked, variant = model:match("^tensorzero::function_name::(.+)::variant_name::(.+)$")
  if asked then
    return name(asked), name(variant)
  end
  return name(model:match("^tensorzero::model_name::(.+)$")
    or model:match("^tensorzero::embedding_model_name::(.+)$")), ""
end

local function purge(hour, now)
  if hour == purged_in then
    return
  end
  local oldest = hour_of(now - KEPT_S)
  for one in pairs(hours) do
    if one < oldest then
      hours[one] = nil
    end
  end
  purged_in = hour
end

local function add(where, key)
  where[key] = (where[key] or 0) + 1
end

core.register_fetches("pmoves_count", function(txn)
  local now = os.time()
  local hour = hour_of(now)
  purge(hour, now)
  local target = name(txn:get_var("txn.target"))
  local asked, variant = function_and_variant(txn:get_var("txn.model"))
  local status = tostring(txn.f:status())
  local key = table.concat({ target, asked, variant, status }, "|")
  if totals[key] == nil then
    if keys_in_totals >= MOST_KEYS then
      key = table.concat({ target, "", "", status }, "|")
    end
    if totals[key] == nil then
      keys_in_totals = keys_in_totals + 1
    end
  end
  add(totals, key)
  hours[hour] = hours[hour] or {}
  add(hours[hour], key)
  return ""
end)

core.register_cli({ "show", "pmoves-counts" }, "show pmoves-counts : requests by hour and answer", function(applet)
  local lines = {}
  for hour, counted in pairs(hours) do
    for key, requests in pairs(counted) do
      lines[#lines + 1] = hour .. "|" .. key .. " " .. requests .. "\n"
    end
  end
  table.sort(lines)
  applet:send(table.concat(lines))
end)

core.register_service("pmoves_metrics", "http", function(applet)
  local lines = {}
  for key, requests in pairs(totals) do
    local target, asked, variant, status = key:match("^(.-)|(.-)|(.-)|(.-)$")
    lines[#lines + 1] = string.format('%s{target="%s",function="%s",variant="%s",status="%s"} %d\n',
      METRIC, target, asked, variant, status, requests)
  end
  table.sort(lines)
  local body = "# HELP " .. METRIC .. " Requests that were answered, by who answered and how.\n"
    .. "# TYPE " .. METRIC .. " counter\n" .. table.concat(lines)
  applet:set_status(200)
  applet:add_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
  applet:add_header("content-length", tostring(#body))
  applet:start_response()
  applet:send(body)
end)
