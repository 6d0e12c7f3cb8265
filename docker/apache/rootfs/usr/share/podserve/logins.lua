-- Logins on the web, called by logins.conf: the name is taken in lower case, an accepted login is remembered, a repeated wrong password
-- counts once, and guesses at one account are limited. All this is in the memory of the Apache process. There is one process as a rule
-- (conf-available/podserve.conf), and a second one counts for itself. Only digests are kept, with a key that the entrypoint makes at each
-- start.

local KEY = os.getenv("GUESSES_KEY")
local SECONDS, MOST = 600, 20 -- as in conf-available/clients.conf
local ACCOUNTS, TOKENS = "/data/state/accounts/passwd", "/data/state/accounts/tokens"
local DAY = 86400

-- mod_auth_basic itself names no charset. With this one a browser sends a password in UTF-8: RFC 7617, section 2.1.
local function challenge(r)
    r.err_headers_out["WWW-Authenticate"] = 'Basic realm="PodServe", charset="UTF-8"'
    return 401
end

local function digest(r, ...)
    return r:sha1(KEY .. table.concat({...}, "\0"))
end

-- Each table has 4,096 places, which bounds the memory. A new digest replaces the one in its place.
local function get(r, kind, key)
    local kept = r:ivm_get(kind .. key:sub(1, 3))
    return kept and kept:sub(1, #key) == key and kept:sub(#key + 1)
end

local function set(r, kind, key, value)
    r:ivm_set(kind .. key:sub(1, 3), key .. value)
end

-- Return the wrong passwords of an account in the last SECONDS, the oldest first.
local function guesses(r, account, now)
    local found = {}
    for password, network, time in (get(r, "account", account) or ""):gmatch("(%x+) (%x+) (%d+)\n") do
        if now < time + SECONDS then table.insert(found, {password = password, network = network, time = time}) end
    end
    return found
end

-- Remember an accepted login, and that its account has logged in from this address. The first use of an app password on a day is noted as
-- the time of a file (podserve/token_uses.py).
local function remember(r, accepted, name, label, known, before)
    set(r, "accepted", accepted, os.time() .. " " .. label .. " " .. name)
    if known and not get(r, "known", known) then set(r, "known", known, "") end
    if label ~= "" and os.time() // DAY ~= before // DAY then
        local path = "/data/web/.logins/" .. name .. ":" .. label .. ":web"
        local file = io.open(path, "w")
        if file then file:close() end
    end
end

-- Return what tells a file from a changed or replaced one; nothing if there is none. A file that replaces another by rename(2) changes its
-- ctime then. (The times are floats, in microseconds, of which Lua itself would write 14 digits only.)
local function version(r, path)
    local file = r:stat(path)
    return file and string.format("%d %d", file.size, file.ctime)
end

-- Return whether an account exists and is enabled (podserve/accounts.py).
local function enabled(name)
    for line in io.lines(ACCOUNTS) do
        local account, hash = line:match("^([^:]*):(.*)$")
        if account == name then return hash:sub(-1) ~= "!" end
    end
end

-- Return the label of an app password of an account (podserve/tokens.py); nothing for any other password. This takes the same time
-- whether or not there is such an account.
local function label_of(name, password)
    local file = io.open(TOKENS)
    if not file then return end
    local content = file:read("a")
    file:close()
    local bytes = require("openssl.digest").new("sha256"):final(password)
    local hash = bytes:gsub(".", function(byte) return string.format("%02x", byte:byte()) end)
    local place = content:find(":" .. hash .. ":", 1, true)
    if not place then return end
    local account, label = ("\n" .. content:sub(1, place - 1)):match("^.*\n([^\n]*)/([^\n]*)$")
    return account == name and enabled(name) and label
end

-- Return the seconds until an account accepts logins again from addresses that are new to it; nil if it accepts them now. Guesses from
-- one address alone do not count, because that address is blocked.
local function blocked(counted, now)
    for _, guess in ipairs(counted) do
        if #counted >= MOST and guess.network ~= counted[1].network then return counted[1].time + SECONDS - now end
    end
end

-- Accept a login. The page at /account/ takes no app password (account.conf).
local function accept(r, name, label)
    if label ~= "" then r.subprocess_env["app_password"] = label end
    r.user = name
    return apache2.OK
end

-- For a request that needs a login, before mod_auth_basic computes the hash of its password (50 ms of bcrypt). A login that was accepted
-- is not computed again from the same address for SECONDS after its last use, while the files of accounts and app passwords are the same.
function login(r)
    local headers = r.headers_in
    local sent, network = headers["Authorization"] or "", headers["Client-Network"]
    local accounts, now = version(r, ACCOUNTS), os.time()
    if not accounts then return apache2.DECLINED end
    local checked = accounts .. " " .. (version(r, TOKENS) or "")
    local accepted = digest(r, network, sent, checked)
    local used, label, name = (get(r, "accepted", accepted) or ""):match("^(%d+) (%S*) (.*)$")
    if used and now < used + SECONDS then
        if now > tonumber(used) then
            local known = not r.subprocess_env["shared"] and digest(r, network, name)
            remember(r, accepted, name, label, known, tonumber(used))
        end
        return accept(r, name, label)
    end

    local encoded = sent:match("^[Bb][Aa][Ss][Ii][Cc] [ \t]*(.+)$")
    if not encoded then return challenge(r) end
    local password, account, known
    name, password = ((r:base64_decode(encoded) or "") .. ":"):match("^([^:]*):(.*):$")
    name, password = (name or r:base64_decode(encoded) or ""):lower(), password or ""
    headers["Authorization"] = "Basic " .. r:base64_encode(name .. ":" .. password)

    local shared = r.subprocess_env["shared"]
    if not shared then
        account, known = digest(r, name), digest(r, network, name)
        -- An address from which the account has logged in before is not new to it.
        local seconds = blocked(guesses(r, account, now), now)
        if seconds and not get(r, "known", known) then
            r.subprocess_env["guess_Remaining"] = tostring(seconds) -- the header Retry-After
            return 429
        end
    end
    label = label_of(name, password)
    r.notes["accepted"], r.notes["name"], r.notes["known"], r.notes["label"] = accepted, name, known, label or ""
    if label then return accept(r, name, label) end
    if shared then return apache2.DECLINED end

    local tried = digest(r, network, name, password)
    r.notes["account"], r.notes["tried"], r.notes["checked"] = account, tried, checked
    r.notes["password"], r.notes["network"] = digest(r, name, password), digest(r, network)

    -- A wrong password is not computed again while the accounts are the same.
    local time, wrong = (get(r, "tried", tried) or ""):match("^ (%d+) (.*)$")
    if time and now < time + SECONDS then
        r.subprocess_env["repeated"] = "yes"
        if wrong == checked then return challenge(r) end
    else
        time = now
        set(r, "tried", tried, " " .. now .. " ")
    end
    r.notes["time"] = tostring(time)
    return apache2.DECLINED
end

-- After the response. A request has the variable only if its login was accepted (logins.conf).
function after(r)
    local accepted = r.notes["accepted"]
    if not accepted then return apache2.OK end
    local account, time = r.notes["account"], r.notes["time"]
    if r.subprocess_env["login_accepted"] then
        remember(r, accepted, r.notes["name"], r.notes["label"], r.notes["known"], 0)
    elseif time and r.status == 401 then
        set(r, "tried", r.notes["tried"], " " .. time .. " " .. r.notes["checked"])
        local counted, password = guesses(r, account, os.time()), r.notes["password"]
        for _, guess in ipairs(counted) do
            if guess.password == password then return apache2.OK end
        end
        table.insert(counted, {password = password, network = r.notes["network"], time = os.time()})
        local lines = {}
        for place = math.max(1, #counted - MOST + 1), #counted do
            local guess = counted[place]
            table.insert(lines, guess.password .. " " .. guess.network .. " " .. guess.time .. "\n")
        end
        set(r, "account", account, table.concat(lines))
    end
    return apache2.OK
end
