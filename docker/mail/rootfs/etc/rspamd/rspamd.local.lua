-- PodServe's own rules. The package's rspamd.lua reads this file.
local lua_mime = require "lua_mime"
local logger = require "rspamd_logger"

local main_domain = os.getenv("DOMAIN")
local postmaster = os.getenv("POSTMASTER") .. "@" .. main_domain

-- Returns the pairs of words in a file: {address = login} of `mailboxes`, {alias = logins} of `aliases`, {domain = selector} of the
-- RSA keys, {domain as it may be written = domain} of `domains`. (A map of rspamd would be old in a worker that takes the place of a dead one: it reads a map again only after the next
-- change.)
local function pairs_in(file)
  local found, opened = {}, io.open(file)
  if not opened then return found end
  for line in opened:lines() do
    local name, value = line:lower():match("^(%S+)%s+(%S+)$")
    if name then found[name] = value end
  end
  opened:close()
  return found
end

-- Returns an address as the tables have it: in lower case and without a tag.
local function untagged(address)
  return (address:lower():gsub("%+.*@", "@"))
end

-- Returns our domain of an address of the message (its A-label), or nil.
local function own_domain(address)
  return pairs_in("/run/postfix/domains")[(address and address.domain or ""):lower()]
end

local function to_postmaster(task)
  for _, recipient in ipairs(task:get_recipients("smtp") or {}) do
    local name = recipient.user:lower()
    if name == "postmaster" or name == "abuse" then return true end
  end
  return false
end

-- Whether a message leaves for another domain: because an alias leads there (`mailboxes`), or as a bounce of such a message.
local function is_forwarded(task)
  local logins, aliases = pairs_in("/run/postfix/mailboxes"), pairs_in("/run/postfix/aliases")
  local catch_all = pairs_in("/run/postfix/catch-all")
  for _, recipient in ipairs(task:get_recipients("smtp") or {}) do
    local address = untagged(recipient.addr)
    if address:match("^srs[01]=") or (logins[address] or aliases[address] or catch_all[address:match("@.*$")] or ""):find("@forward.invalid", 1, true) then return true end
  end
  return false
end

-- What this server sends: mail of a login, and bounces (which cleanup gives to the milter, see main.cf).
local function is_ours(task)
  return task:get_user() or tostring(task:get_request_header("MTA-Name") or "") == "bounces"
end

-- Each message that leaves has two signatures, by RSA and by Ed25519 (RFC 8463), or does not leave yet. They are those of its author's
-- domain, which DMARC compares.
rspamd_config:register_symbol {
  name = "OWN_SIGNATURES",
  type = "callback",
  flags = "ignore_passthrough,empty",
  callback = function(task)
    -- What an account's script sends on has another author.
    local sent_on = not task:get_user() and task:has_header("X-Sieve-Redirected-From")
    if not is_ours(task) or sent_on then return end
    local domain = own_domain((task:get_from("mime") or {})[1]) or main_domain
    local selector = pairs_in("/data/state/dkim/selectors")[domain]
    local signed = {}
    for _, suffix in ipairs(selector and { "", "-ed25519" } or {}) do
      local name = selector .. suffix
      local key = string.format("/data/state/dkim/%s/%s.key", domain, name)
      local done = rspamd_plugins.dkim.sign(task, { domain = domain, selector = name, key = key })
      if done then signed[#signed + 1] = name end
    end
    if #signed == 2 then return true, 0, signed end
    logger.errx(task, "no DKIM keys of %s (selector %s): the message is not signed", domain, selector)
    task:set_pre_result("soft reject", "this server cannot sign mail now: try again later", "dkim")
  end,
}

-- With an app password, Postfix calls a login name@domain/label. Rules and limits are the account's.
rspamd_config:register_symbol {
  name = "APP_PASSWORD",
  type = "prefilter",
  priority = 10, -- before the limits (symbols_priorities in lua_util.lua)
  callback = function(task)
    local login = task:get_user()
    if login and login:find("/", 1, true) then task:set_user(login:match("^[^/]*")) end
  end,
}

-- The author of a login's mail is one of its addresses, as the sender is (smtpd_sender_login_maps).
rspamd_config:register_symbol {
  name = "FOREIGN_AUTHOR",
  type = "prefilter",
  callback = function(task)
    local login = (task:get_user() or ""):lower()
    if login == "" then return end
    local logins = pairs_in("/run/postfix/mailboxes")
    if not logins[login] then -- `mailboxes` is just writing it
      task:set_pre_result("soft reject", "the accounts are changing: try again", "authors")
      return
    end
    local authors = task:get_from("mime") or {}
    local headers = task:get_header_full("From") or {}
    local own, aliases = #authors > 0 and #headers == 1, nil
    for _, author in ipairs(authors) do
      local address = untagged(author.addr)
      local name = own_domain(author) and address:match("^(.*)@")
      local owners = (name == "postmaster" or name == "abuse") and postmaster or logins[address]
      if not owners then
        aliases = aliases or pairs_in("/run/postfix/aliases")
        owners = aliases[address] or ""
      end
      own = own and ("," .. owners .. ","):find("," .. login .. ",", 1, true)
    end
    if not own then
      task:set_pre_result("reject", "From: must be one address of " .. login, "authors")
    end
  end,
}

-- What would go into Junk here is refused instead of forwarded, so its sender learns of it.
rspamd_config:register_symbol {
  name = "SPAM_FOR_ELSEWHERE",
  type = "postfilter",
  flags = "ignore_passthrough,empty",
  callback = function(task)
    if task:get_metric_action() ~= "add header" or is_ours(task) or to_postmaster(task) or not is_forwarded(task) then return end
    task:set_pre_result {
      action = "reject",
      message = "this message looks like spam, and is not forwarded (write to postmaster@ if it is none)",
      module = "forward",
      priority = 100,
    }
  end,
}

-- rspamd may crash when a rule takes 0.3 s: a timer then uses the message after it was freed (symcache_runtime.cxx of 3.12.1).
-- 10,000 parts take as long. So nothing else judges a message of more than 1,000. Such a message would leave unsigned, so a login
-- cannot send it.
rspamd_config:register_symbol {
  name = "MANY_PARTS",
  type = "prefilter",
  callback = function(task)
    if #(task:get_parts() or {}) > 1000 and (task:get_user() or not is_ours(task)) then
      task:set_pre_result(task:get_user() and "reject" or "add header", "a message may have 1,000 parts", "parts")
    end
  end,
}

-- A signature by an RSA key of less than 1024 bits proves nothing (RFC 8301, section 3.2), nor does one of more text than there is
-- (RFC 6376, section 3.5). rspamd verifies both, so no signature of such a message counts.
rspamd_config:register_symbol {
  name = "WEAK_SIGNATURE",
  type = "prefilter",
  callback = function(task)
    for _, header in ipairs(task:get_header_full("DKIM-Signature") or {}) do
      local tags = ";" .. header.value:gsub("%s", "") .. ";"
      local signature, covered = tags:match(";b=([^;=]*)") or "", tonumber(tags:match(";l=(%d+);"))
      local short = tags:match(";a=rsa%-") and #signature * 6 < 1024
      if short or covered and covered > (task:get_rawbody() or ""):len() then
        task:disable_symbol("DKIM_CHECK")
        return true, 0
      end
    end
  end,
}

-- Refused as RFC 7489 says, with the code of RFC 7372. rspamd itself knows one code; Postfix takes this header for a refusal
-- (milter_header_checks).
rspamd_config:register_symbol {
  name = "REFUSED_BY_DMARC",
  type = "postfilter",
  callback = function(task)
    if is_ours(task) or not task:has_symbol("DMARC_POLICY_REJECT") then return end
    if to_postmaster(task) then
      task:set_pre_result("add header", "DMARC", "dmarc")
    else
      local author = (task:get_from("mime") or {})[1]
      lua_mime.modify_headers(task, { add = { ["X-Refused"] = {
        order = 0,
        value = "5.7.26 the domain of From:, " .. (author and author.domain or "") .. ", asks to refuse mail that it did not send (DMARC)",
      } } })
      return true, 0
    end
  end,
}

config["regexp"]["GTUBE"] = {
  re = [[/XJS\*C4JDBQADN1\.NSBN3\*2IDNEN\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\*C\.34X/{sa_body}]],
  score = 100,
  description = "the test message of spam filters",
  group = "content",
}
