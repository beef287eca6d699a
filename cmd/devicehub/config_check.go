package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"devicehub/devices"
)

// sequenceWindow is how many readings above the acknowledged one the hub can
// tell apart; what a device may have in flight must fit in it.
const sequenceWindow = 4096

// maxIssuer keeps a token within 512 bytes (identity.Config).
const maxIssuer = 40

// checker collects problems.
type checker struct{ problems Problems }

func (c *checker) add(key, format string, args ...any) {
	c.problems = append(c.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) oneOf(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		c.add(key, "must be %s, not %q", orList(allowed), got)
	}
}

func (c *checker) between(key string, got, low, high int) {
	if got < low || got > high {
		c.add(key, "must be between %d and %d, not %d", low, high, got)
	}
}

func (c *checker) bytes(key string, got, low, high Size) {
	if got < low || got > high {
		c.add(key, "must be between %s and %s, not %s", low, high, got)
	}
}

func (c *checker) duration(key string, got, low, high Duration) {
	if got < low || got > high {
		c.add(key, "must be between %s and %s, not %s", low, high, got)
	}
}

// notRedacted finds a secret that was copied from `config show`.
func (c *checker) notRedacted(key, secret string) {
	if secret == redacted {
		c.add(key, "%q is what `config show` writes in place of a secret; put the secret itself", redacted)
	}
}

// proxies looks at the proxies before the listeners of a section.
func (c *checker) proxies(section string, trusted []string, header bool) {
	for i, p := range trusted {
		if _, err := parsePrefix(p); err != nil {
			c.add(entry(section+".trusted_proxies", i), "%q is no address or prefix (such as 10.0.0.1 or 10.0.0.0/8)", p)
		}
	}
	if header && len(trusted) == 0 {
		c.add(section+".proxy_protocol", "needs %s.trusted_proxies: the header is taken from those addresses alone", section)
	}
}

// Check returns what is wrong with c apart from types. It does not look at the
// disk; CheckFiles does.
func (c *Config) Check() Problems {
	var ck checker
	if c.DataDir == "" {
		ck.add("data_dir", "must name a folder")
	}
	c.HTTP.check(&ck)
	c.checkListeners(&ck)
	c.checkMQTT(&ck)
	ck.oneOf("registry.url", c.Registry.URL, "sqlite")
	c.Audit.check(&ck)
	c.Readings.check(&ck)
	c.checkAuth(&ck)
	c.Limits.check(&ck)
	ck.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	ck.oneOf("log.format", c.Log.Format, "text", "json")
	for _, k := range configKeys() {
		if k.Secret {
			ck.notRedacted(k.Path, k.In(c).String())
		}
	}
	return ck.problems
}

func (h *HTTPConfig) check(ck *checker) {
	t := &h.TLS
	ck.oneOf("http.tls.mode", t.Mode, TLSOff, TLSFiles, TLSSelfSigned, TLSACME)
	if t.Mode == TLSFiles {
		if t.Cert == "" {
			ck.add("http.tls.cert", "mode files needs the PEM file of the certificate")
		}
		if t.Key == "" {
			ck.add("http.tls.key", "mode files needs the PEM file of the key")
		}
	}
	if t.Mode == TLSACME && len(t.ACMEDomains) == 0 {
		ck.add("http.tls.acme_domains", "mode acme needs the host names of the certificate")
	}
	for i, d := range t.ACMEDomains {
		if !hostName(d) || !strings.Contains(d, ".") {
			ck.add(entry("http.tls.acme_domains", i), "%q is no public host name", d)
		}
	}
	if t.ACMEEmail != "" {
		if _, err := mail.ParseAddress(t.ACMEEmail); err != nil {
			ck.add("http.tls.acme_email", "%q is no mail address", t.ACMEEmail)
		}
	}
	if u, err := url.Parse(t.ACMEDirectory); t.ACMEDirectory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		ck.add("http.tls.acme_directory", "must be the https address of an ACME directory, not %q", t.ACMEDirectory)
	}
	if h.PublicURL != "" {
		if _, err := origin(h.PublicURL); err != nil {
			ck.add("http.public_url", "%v", err)
		}
	}
	for i, o := range h.AllowedOrigins {
		if _, err := origin(o); err != nil {
			ck.add(entry("http.allowed_origins", i), "%v", err)
		}
	}
	ck.proxies("http", h.TrustedProxies, h.ProxyProtocol)
	ck.duration("http.drain_delay", h.DrainDelay, 0, Duration(30e9))
	ck.oneOf("http.insecure_login", h.InsecureLogin, "private", "any")
	ck.oneOf("http.metrics", h.Metrics, "token", "open", "off")
}

// checkListeners looks at every address that the hub listens on.
func (c *Config) checkListeners(ck *checker) {
	if c.HTTP.Listen == "" {
		ck.add("http.listen", "must be host:port or :port")
	}
	e := c.MQTT.Embedded
	ck.proxies("mqtt.embedded", e.TrustedProxies, e.ProxyProtocol)
	if e.TLSListen != "" && c.HTTP.TLS.Mode == TLSOff {
		ck.add("mqtt.embedded.tls_listen", "needs a certificate: set http.tls.mode to files, self_signed or acme")
	}
	taken := map[string]string{}
	for _, l := range []struct{ key, addr string }{
		{"http.listen", c.HTTP.Listen},
		{"mqtt.embedded.listen", e.Listen},
		{"mqtt.embedded.tls_listen", e.TLSListen},
		{"mqtt.embedded.ws_listen", e.WSListen},
	} {
		if l.addr == "" {
			continue
		}
		_, port, err := net.SplitHostPort(l.addr)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			ck.add(l.key, "%q is no address to listen on (host:port or :port)", l.addr)
			continue
		}
		if other := taken[l.addr]; other != "" && port != "0" {
			ck.add(l.key, "%s is taken by %s; give each its own port", l.addr, other)
		}
		taken[l.addr] = l.key
	}
}

func (c *Config) checkMQTT(ck *checker) {
	checkRoot(ck, "mqtt.root", c.MQTT.Root)
	names := map[string]bool{}
	for i, b := range c.MQTT.Bridges {
		key := entry("mqtt.bridges", i)
		switch {
		case b.Name == "":
			ck.add(key+".name", "every bridge needs a name of its own")
		case !bridgeName().MatchString(b.Name):
			ck.add(key+".name", "%q must be 1 to 63 characters a-z, 0-9 and '-'", b.Name)
		case b.Name == devices.ViaDirect:
			ck.add(key+".name", "%q means devices without a bridge; choose another name", b.Name)
		case names[b.Name]:
			ck.add(key+".name", "%q is taken by another bridge", b.Name)
		}
		names[b.Name] = true
		b.check(ck, key)
	}
}

func bridgeName() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$`) }

func (b *BridgeConfig) check(ck *checker, key string) {
	u, err := url.Parse(b.URL)
	schemes := []string{"mqtt", "tcp", "mqtts", "ssl", "tls", "ws", "wss"}
	switch {
	case b.URL == "":
		ck.add(key+".url", "every bridge needs the URL of its broker (such as mqtt://192.168.1.5:1883)")
	case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme):
		ck.add(key+".url", "must be a broker's URL (%s://host:port)", strings.Join(schemes, ", "))
	case u.User != nil:
		ck.add(key+".url", "put the name and password into username and password")
	}
	if (b.Cert == "") != (b.Key == "") {
		ck.add(key+".cert", "cert and key go together; give both or neither")
	}
	ck.notRedacted(key+".password", b.Password)
	ck.oneOf(key+".trust", b.Trust, "token", "topic")
	checkRoot(ck, key+".root", b.Root)
	seen := map[AdapterConfig]bool{}
	for i, a := range b.Adapters {
		at := fmt.Sprintf("%s.adapters[%d]", key, i)
		switch a.Kind {
		case "native", "ha_out", "z2m", "tasmota":
		case "shelly", "homie5", "custom":
			ck.add(at+".kind", "%q is planned and not there yet; known are native, ha_out, z2m and tasmota", a.Kind)
		default:
			ck.add(at+".kind", "must be native, ha_out, z2m or tasmota, not %q", a.Kind)
		}
		if a.Base != "" {
			checkRoot(ck, at+".base", a.Base)
		}
		if seen[a] {
			ck.add(at, "the same adapter twice; keep one")
		}
		seen[a] = true
	}
}

// checkRoot looks at the beginning of a topic.
func checkRoot(ck *checker, key, root string) {
	bad := strings.ContainsFunc(root, func(r rune) bool { return r == '+' || r == '#' || unicode.IsControl(r) })
	if root == "" || bad || len(root) > 200 || strings.HasPrefix(root, "$") || strings.HasPrefix(root, "/") || strings.HasSuffix(root, "/") {
		ck.add(key, "must be the beginning of a topic such as hub/v1, without wildcards, $ or outer slashes, not %q", root)
	}
}

func (a *AuditConfig) check(ck *checker) {
	if a.MaxAge != 0 {
		ck.duration("audit.max_age", a.MaxAge, Day, 100*Year)
	}
	ck.bytes("audit.max_bytes", a.MaxBytes, 1<<20, 1<<40)
}

func (r *ReadingsConfig) check(ck *checker) {
	ck.oneOf("readings.fsync", r.Fsync, "batch", "interval", "off")
	const century = 100 * Year
	ck.duration("readings.late_max", r.LateMax, Duration(60e9), century)
	ck.duration("readings.retention.raw", r.Retention.Raw, Day, century)
	ck.duration("readings.retention.15m", r.Retention.Min15, Day, century)
	ck.duration("readings.retention.1h", r.Retention.Hour1, Day, century)
	if need := r.LateMax + Day; r.Retention.Raw < need && r.Retention.Raw >= Day && r.LateMax <= century {
		ck.add("readings.retention.raw", "must be at least late_max and a day (%s), so that late readings find their bucket, not %s", need, r.Retention.Raw)
	}
	ck.between("readings.backfill_share", r.BackfillShare, 1, 99)
	in := r.Influx
	if in.URL != "" {
		if u, err := url.Parse(in.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			ck.add("readings.influx.url", "must be the URL of an InfluxDB server (http://host:8086)")
		}
		if in.Bucket == "" {
			ck.add("readings.influx.bucket", "the sink needs a bucket (for InfluxDB 1.8: database/retention-policy)")
		}
	} else if in.Org != "" || in.Bucket != "" || in.Token != "" {
		ck.add("readings.influx.url", "the sink needs the URL of its server; the other keys of readings.influx are set")
	}
	if in.SpoolMax != AutoSize && in.SpoolMax < 16<<20 {
		ck.add("readings.influx.spool_max", "must be auto or at least 16MiB, not %s", in.SpoolMax)
	}
}

func (c *Config) checkAuth(ck *checker) {
	a := c.Auth
	if a.Issuer == "" || len(a.Issuer) > maxIssuer || strings.ContainsFunc(a.Issuer, func(r rune) bool { return !unicode.IsGraphic(r) || r == ' ' }) {
		ck.add("auth.issuer", "must be 1 to %d bytes without blanks, not %q", maxIssuer, a.Issuer)
	}
	if a.TokenTTL != 0 {
		ck.duration("auth.token_ttl", a.TokenTTL, Duration(60e9), 100*Year)
	}
	if p := a.InitialAdminPassword; p != "" && p != redacted && len(p) < 8 {
		ck.add("auth.initial_admin_password", "must have at least 8 characters")
	}
}

func (l *LimitsConfig) check(ck *checker) {
	ck.between("limits.frame_bytes", l.FrameBytes, 1024, 16<<20)
	ck.between("limits.readings_per_push", l.ReadingsPerPush, 1, sequenceWindow)
	ck.between("limits.pushes_in_flight", l.PushesInFlight, 1, 1024)
	if n := l.ReadingsPerPush * l.PushesInFlight; n > sequenceWindow && l.ReadingsPerPush <= sequenceWindow && l.PushesInFlight <= 1024 {
		ck.add("limits.pushes_in_flight", "times limits.readings_per_push must be at most %d (the window of sequence numbers), not %d", sequenceWindow, n)
	}
	ck.between("limits.channels_per_connection", l.ChannelsPerConnection, 1, 100_000)
	ck.between("limits.inbox", l.Inbox, 1, 65536)
	ck.between("limits.outbound_bytes", l.OutboundBytes, 4096, 1<<30)
	ck.duration("limits.outbound_age", l.OutboundAge, Duration(1e9), Duration(600e9))
	ck.between("limits.device_events_per_s", l.DeviceEventsPerS, 1, 1_000_000)
	ck.between("limits.device_burst", l.DeviceBurst, 1, 1_000_000)
	ck.between("limits.bridge_events_per_s", l.BridgeEventsPerS, 1, 1_000_000)
	ck.bytes("limits.inbound_bytes_per_principal", l.InboundBytesPerPrincipal, 65536, 1<<34)
	ck.bytes("limits.outbound_bytes_per_principal", l.OutboundBytesPerPrincipal, 65536, 1<<34)
	ck.bytes("limits.mqtt_kept_bytes_per_min", l.MQTTKeptBytesPerMin, 1<<16, 1<<50)
	ck.bytes("limits.device_bytes_per_min", l.DeviceBytesPerMin, 1<<16, 1<<50)
	ck.bytes("limits.device_bytes_per_day", l.DeviceBytesPerDay, 1<<20, 1<<50)
	for _, n := range []struct {
		key   string
		value int
	}{
		{"device_longpolls", l.DeviceLongpolls}, {"events_per_s", l.EventsPerS}, {"event_burst", l.EventBurst},
		{"reads_per_s", l.ReadsPerS}, {"read_burst", l.ReadBurst}, {"calls_per_s", l.CallsPerS}, {"call_burst", l.CallBurst},
		{"calls_at_once", l.CallsAtOnce}, {"sockets", l.Sockets}, {"longpolls", l.Longpolls},
		{"mqtt_messages_per_s", l.MQTTMessagesPerS}, {"mqtt_message_burst", l.MQTTMessageBurst},
		{"connects_per_s", l.ConnectsPerS}, {"connect_burst", l.ConnectBurst},
		{"unverified", l.Unverified}, {"unverified_per_address", l.UnverifiedPerAddress},
	} {
		ck.between("limits."+n.key, n.value, 1, 1_000_000)
	}
	ck.between("limits.connects_per_s_per_address", l.ConnectsPerSPerAddress, 1, 1_000_000)
	ck.between("limits.failed_connects_per_s_per_address", l.FailedConnectsPerSPerAddress, 1, 1_000_000)
	ck.between("limits.failed_logins_per_min_per_address", l.FailedLoginsPerMinPerAddress, 1, 1_000_000)
	ck.between("limits.failed_logins_per_min_per_name", l.FailedLoginsPerMinPerName, 1, 1_000_000)
	ck.bytes("limits.mqtt_bytes", l.MQTTBytes, 1<<20, 1<<40)
	ck.bytes("limits.mqtt_bytes_per_account", l.MQTTBytesPerAccount, 1<<20, 1<<40)
	ck.between("limits.mqtt_sessions_per_account", l.MQTTSessionsPerAccount, 1, 10_000)
	ck.between("limits.mqtt_retained_per_account", l.MQTTRetainedPerAccount, 1, 10_000_000)
}

// CheckFiles returns what is wrong with the files that c names.
func (c *Config) CheckFiles() Problems {
	var ck checker
	pair := func(key, cert, private string) {
		if cert == "" || private == "" {
			return
		}
		if _, err := tls.LoadX509KeyPair(cert, private); err != nil {
			ck.add(key, "%v; give readable PEM files that belong together", err)
		}
	}
	if c.HTTP.TLS.Mode == TLSFiles {
		pair("http.tls.cert", c.HTTP.TLS.Cert, c.HTTP.TLS.Key)
	}
	for i, b := range c.MQTT.Bridges {
		key := entry("mqtt.bridges", i)
		pair(key+".cert", b.Cert, b.Key)
		if b.CA != "" {
			if _, err := readCertPool(b.CA); err != nil {
				ck.add(key+".ca", "%v; give a readable PEM file", err)
			}
		}
	}
	return ck.problems
}

// fillBridges completes bridges that leave out what has a default.
func (c *Config) fillBridges() {
	for i := range c.MQTT.Bridges {
		b := &c.MQTT.Bridges[i]
		if b.ClientID == "" && b.Name != "" {
			b.ClientID = "devicehub-" + b.Name
		}
		if b.Root == "" {
			b.Root = c.MQTT.Root
		}
		if b.Trust == "" {
			b.Trust = "token"
		}
		for j := range b.Adapters {
			if b.Adapters[j].Kind == "" {
				b.Adapters[j].Kind = "native"
			}
		}
		if len(b.Adapters) == 0 {
			b.Adapters = []AdapterConfig{{Kind: "native"}}
		}
	}
}

// parsePrefix reads an address or a prefix.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// origin reads s as a web origin: scheme and host, nothing after it.
func origin(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("must be scheme and host alone (https://hub.example.org), not %q", s)
	}
	return u, nil
}

func hostName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	label := bridgeName()
	for part := range strings.SplitSeq(strings.ToLower(s), ".") {
		if !label.MatchString(part) {
			return false
		}
	}
	return true
}

func entry(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
