/*
 * own-names.so: a query plugin of named. A zone whose file is in the folder FOLDER answers for its own name alone, and of that name
 * only for the addresses (A, AAAA). Every other query that named would answer from this zone goes to the cache and the forwarders, as
 * if the zone did not exist: other types of the name (MX, TXT, ...), and all names below it.
 *
 * BIND has no setting for this. A zone, a response policy zone and a redirect zone each answer all types of a name.
 * The interface of plugins: /usr/include/ns/hooks.h. Source of the hook: query_lookup() in lib/ns/query.c of BIND 9.20.
 */
#include <string.h>

#include <dns/db.h>
#include <dns/name.h>
#include <dns/view.h>
#include <dns/zone.h>
#include <ns/client.h>
#include <ns/hooks.h>
#include <ns/query.h>

#define FOLDER "/run/named/own/"

static ns_hookresult_t
answer_addresses_alone(void *arg, void *data, isc_result_t *result) {
	query_ctx_t *query = arg;
	(void)data;
	(void)result;

	if (!query->is_zone || query->zone == NULL) {
		return NS_HOOK_CONTINUE;
	}
	const char *file = dns_zone_getfile(query->zone);
	if (file == NULL || strncmp(file, FOLDER, strlen(FOLDER)) != 0) {
		return NS_HOOK_CONTINUE;
	}
	if ((query->qtype == dns_rdatatype_a || query->qtype == dns_rdatatype_aaaa) &&
	    dns_name_equal(query->client->query.qname, dns_zone_getorigin(query->zone)))
	{
		return NS_HOOK_CONTINUE;
	}
	/* What ns__query_start() sets when no zone holds the name. */
	dns_db_detach(&query->db);
	dns_zone_detach(&query->zone);
	query->version = NULL;
	query->is_zone = false;
	query->authoritative = false;
	dns_db_attach(query->view->cachedb, &query->db);
	return NS_HOOK_CONTINUE;
}

isc_result_t
plugin_register(const char *parameters, const void *cfg, const char *file, unsigned long line, isc_mem_t *mctx, isc_log_t *lctx,
		void *actx, ns_hooktable_t *hooks, void **instance) {
	static const ns_hook_t hook = { .action = answer_addresses_alone };
	(void)parameters;
	(void)cfg;
	(void)file;
	(void)line;
	(void)lctx;
	(void)actx;
	ns_hook_add(hooks, mctx, NS_QUERY_LOOKUP_BEGIN, &hook);
	*instance = NULL;
	return ISC_R_SUCCESS;
}

isc_result_t
plugin_check(const char *parameters, const void *cfg, const char *file, unsigned long line, isc_mem_t *mctx, isc_log_t *lctx,
	     void *actx) {
	(void)parameters;
	(void)cfg;
	(void)file;
	(void)line;
	(void)mctx;
	(void)lctx;
	(void)actx;
	return ISC_R_SUCCESS;
}

void
plugin_destroy(void **instance) {
	*instance = NULL;
}

int
plugin_version(void) {
	return NS_PLUGIN_VERSION;
}
