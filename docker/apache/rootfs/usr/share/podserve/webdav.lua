-- What mod_dav does otherwise than clients of WebDAV expect. webdav.conf calls these functions.

local lfs = require "lfs"

-- Conditions on a file whose ETag Apache takes for weak (webdav.conf). A fulfilled condition is removed. Apache refuses the others.
function conditions(r)
    local file = r:stat(r.filename)
    local inode = file and lfs.attributes(r.filename, "ino")
    if not inode then return apache2.DECLINED end
    local tag = string.format('"%x-%x-%x"', inode, file.size // 1 | 0, file.mtime // 1 | 0)
    local function lists(header)
        -- A weak tag in the list is not this one.
        return ((r.headers_in[header] or ""):gsub('W/"[^"]*"', "")):find(tag, 1, true)
    end
    for _, header in ipairs{"If-Match", "If-Range"} do
        if lists(header) then r.headers_in[header] = nil end
    end
    if r.method ~= "GET" and lists("If-None-Match") then return 412 end
    return apache2.DECLINED
end

-- The ETags in a PROPFIND, without the mark of a weak one (webdav.conf). Each is on a line of its own. (For 5,000 files mod_substitute
-- adds 0.25 s, this function 0.1 s.)
function etags(r)
    if r.status ~= 207 then return end
    coroutine.yield()
    local rest = ""
    while bucket do
        local lines, line = (rest .. bucket):match("^(.*\n)(.*)$")
        rest = line or rest .. bucket
        coroutine.yield(((lines or ""):gsub("<lp1:getetag>W/", "<lp1:getetag>")))
    end
    coroutine.yield(rest)
end

-- mod_dav_fs keeps the properties of a file in a database of the same name. Berkeley DB first makes it as __db.NAME, which must fit
-- into the 255 bytes of a name. Requests that would lose properties are refused with 507 (RFC 4918, section 9.8.5). A folder's
-- properties are in the folder itself.
local LONGEST = 250

function properties(r)
    local folder, name = r.filename:match("^(.*)/([^/]+)$")
    if not folder or lfs.attributes(r.filename, "mode") ~= "file" then return apache2.DECLINED end
    if r.method == "PROPPATCH" then return #name > LONGEST and 507 or apache2.DECLINED end
    local new = r:unescape(r.headers_in["Destination"] or ""):match("([^/]*)/?$")
    local kept = lfs.attributes(folder .. "/.DAV/" .. name, "mode")
    return #new > LONGEST and kept and 507 or apache2.DECLINED
end

-- PUT, MKCOL and LOCK below a folder that somebody else has locked. mod_dav answers 207 with this 423 in the body, which a client takes
-- for success.
function locked(r)
    if r.status ~= 207 then return end
    coroutine.yield()
    local content = ""
    while bucket do
        content = content .. bucket
        coroutine.yield("")
    end
    for path in content:gmatch("<D:href>([^<]*)</D:href>%s*<D:status>HTTP/1.1 423") do
        if #r:unescape(path):gsub("/$", "") < #r.uri:gsub("/$", "") then r.status = 423 end -- a folder above
    end
    coroutine.yield(content)
end
