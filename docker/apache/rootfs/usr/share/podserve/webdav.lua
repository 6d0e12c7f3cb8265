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
