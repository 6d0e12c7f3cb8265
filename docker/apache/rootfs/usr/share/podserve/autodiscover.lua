-- The settings of mail for Outlook, called by clients.conf: the client names an address in its request, and the answer names the same
-- one as the login (https://learn.microsoft.com/en-us/openspecs/exchange_server_protocols/ms-oxdscli).

local SETTINGS = "/run/clients/autodiscover.xml"

function answer(r)
    if r.method ~= "POST" then
        r.err_headers_out["Allow"] = "POST"
        return 405
    end
    -- The pattern contains no character that has a meaning in XML.
    local login = (r:requestbody() or ""):match("<EMailAddress>%s*([%w._+-]+@[%w.-]+)%s*</EMailAddress>")
    local file = login and io.open(SETTINGS)
    if not file then return login and 500 or 400 end
    local settings = file:read("a"):gsub("@LOGIN@", login)
    file:close()
    r.content_type = "application/xml"
    r:puts(settings)
    return apache2.OK
end
