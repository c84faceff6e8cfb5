vcl 4.1;

# A plain CDN: it fetches from an edge of the site what it does not have, says who it fetches for, and has a secret.
backend origin {
    .host = "10.89.17.11";
    .port = "80";
}

sub vcl_recv {
    # As any CDN does: nobody is who he says he is.
    set req.http.X-Forwarded-For = client.ip;
    set req.http.X-Forwarded-Proto = "http";
    set req.http.X-Request-ID = "cdn-" + req.xid;
    # What a cache does that is told of the cookies that make a page a personal one.
    if (req.http.Cookie ~ "(^|;\s*)(sessionid|messages)=") {
        return (pass);
    }
    if (req.url ~ "^/static/") {
        unset req.http.Cookie;
    }
}

sub vcl_backend_response {
    # Varnish itself takes no notice of these two.
    if (beresp.http.Cache-Control ~ "(?i)private|no-store|no-cache") {
        set beresp.uncacheable = true;
        set beresp.ttl = 30s;
    }
}

sub vcl_deliver {
    set resp.http.X-CDN = "MISS";
    if (obj.hits > 0) {
        set resp.http.X-CDN = "HIT";
    }
}
