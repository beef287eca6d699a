package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load reads text as the configuration file, with args as flags.
func load(t *testing.T, text string, args ...string) (*Loaded, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addConfigFlags(flags, nil)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(path, flags)
}

func TestNothingGivenIsDefault(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := LoadConfig("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(l.Config, Default()) && l.Config.HTTP.AllowedOrigins != nil {
		t.Errorf("got %+v, want the defaults", l.Config)
	}
	if live, restart := l.Config.Diff(Default()); len(live)+len(restart) > 0 && !onlyEmptyLists(l.Config) {
		t.Errorf("got differences in %v %v, want none", live, restart)
	}
	if l.File != "" || len(l.Origins) > 0 {
		t.Errorf("got file %q and origins %v, want none", l.File, l.Origins)
	}
}

func onlyEmptyLists(c Config) bool {
	return len(c.HTTP.AllowedOrigins)+len(c.HTTP.TrustedProxies)+len(c.MQTT.Bridges)+len(c.MQTT.Embedded.TrustedProxies) == 0
}

func TestFileInWorkingFolderIsRead(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("devicehub.yaml", []byte("log: {level: debug}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := LoadConfig("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if l.Config.Log.Level != "debug" || l.File != "devicehub.yaml" {
		t.Errorf("got level %q from %q, want debug from devicehub.yaml", l.Config.Log.Level, l.File)
	}
}

// The order is default, file, environment, flag.
func TestOrderOfSources(t *testing.T) {
	file := "http:\n  listen: \":1\"\n  metrics: \"off\"\n  tls: {mode: off}\nreadings:\n  retention: {15m: 90d}\n"
	t.Setenv("DEVICEHUB_HTTP_LISTEN", ":2")
	t.Setenv("DEVICEHUB_READINGS_RETENTION_1H", "5y")
	t.Setenv("DEVICEHUB_MQTT_EMBEDDED_LISTEN", "") // empty turns it off
	t.Setenv("DEVICEHUB_LIMITS_INBOX", "32")
	t.Setenv("DEVICEHUB_AUTH_ALLOW_QUERY_TOKEN", "false")
	t.Setenv("DEVICEHUB_READINGS_MIN_FREE", "2GiB")
	l, err := load(t, file, "--http.listen=:3", "--limits.frame-bytes=2048")
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	for _, v := range []struct{ key, got, want string }{
		{"http.listen", c.HTTP.Listen, ":3"},
		{"http.metrics", c.HTTP.Metrics, "off"},
		{"http.tls.mode", c.HTTP.TLS.Mode, "off"},
		{"readings.retention.15m", c.Readings.Retention.Min15.String(), "90d"},
		{"readings.retention.1h", c.Readings.Retention.Hour1.String(), "5y"},
		{"readings.retention.raw", c.Readings.Retention.Raw.String(), "30d"},
		{"mqtt.embedded.listen", c.MQTT.Embedded.Listen, ""},
		{"readings.min_free", c.Readings.MinFree.String(), "2GiB"},
	} {
		if v.got != v.want {
			t.Errorf("%s: got %q, want %q", v.key, v.got, v.want)
		}
	}
	if c.Limits.Inbox != 32 || c.Limits.FrameBytes != 2048 || c.Auth.AllowQueryToken {
		t.Errorf("got inbox %d, frame_bytes %d, allow_query_token %t; want 32, 2048, false", c.Limits.Inbox, c.Limits.FrameBytes, c.Auth.AllowQueryToken)
	}
	if got := l.Origins["http.listen"]; got != "--http.listen" {
		t.Errorf("origin of http.listen: got %q, want --http.listen", got)
	}
	if got := l.Origins["readings.retention.15m"]; !strings.HasSuffix(got, "hub.yaml:6") {
		t.Errorf("origin of readings.retention.15m: got %q, want line 6", got)
	}
}

func TestWrongFiles(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // all of them in the error's one line
	}{
		{"unknown key", "http:\n  lisen: \":1\"\n", []string{"hub.yaml:2: http.lisen: unknown key", `did you mean "listen"?`}},
		{"unknown section", "htpt: {}\n", []string{"hub.yaml:1: htpt: unknown key"}},
		{"key of another section", "log:\n  colour: red\n", []string{"hub.yaml:2: log.colour: unknown key; known here: level, format"}},
		{"upper case", "HTTP: {}\n", []string{"hub.yaml:1: HTTP: unknown key"}},
		{"text for a number", "limits:\n  inbox: many\n", []string{"hub.yaml:2: limits.inbox: must be a whole number, not a text"}},
		{"quoted number", "limits:\n  inbox: \"64\"\n", []string{"limits.inbox: must be a whole number"}},
		{"fraction for a number", "limits:\n  inbox: 6.5\n", []string{"hub.yaml:2: limits.inbox: must be a whole number"}},
		{"number for a text", "auth:\n  issuer: 12\n", []string{"hub.yaml:2: auth.issuer: must be a text, not a number; put it in quotes"}},
		{"text for a bool", "auth:\n  allow_query_token: perhaps\n", []string{"auth.allow_query_token: must be true or false"}},
		{"number without unit", "readings:\n  late_max: 7\n", []string{"hub.yaml:2: readings.late_max: must be a duration"}},
		{"unknown unit", "readings:\n  late_max: 7 moons\n", []string{`hub.yaml:2: readings.late_max: "7 moons" is no duration`}},
		{"wrong size", "readings:\n  min_free: 1 lot\n", []string{`readings.min_free: "1 lot" is no size`}},
		{"no value", "http:\n  listen:\n", []string{"hub.yaml:2: http.listen: has no value"}},
		{"list for a text", "http:\n  listen: [a]\n", []string{"http.listen: must be a text, not a list"}},
		{"text for a list", "http:\n  allowed_origins: https://a.example\n", []string{"http.allowed_origins: must be a list, not a text"}},
		{"text for a section", "http: yes\n", []string{"hub.yaml:1: http: must be a section"}},
		{"twice", "log: {level: info}\nlog: {level: warn}\n", []string{"hub.yaml:2: log: given twice"}},
		{"two documents", "log: {level: info}\n---\nlog: {level: warn}\n", []string{"more than one YAML document"}},
		{"no mapping", "- a\n- b\n", []string{"hub.yaml:1: the file must be"}},
		{"no YAML", "log: {level\n", []string{"hub.yaml: line"}},
		{"unknown key of a bridge", "mqtt:\n  bridges:\n    - name: a\n      urll: x\n", []string{`hub.yaml:4: mqtt.bridges[0].urll: unknown key; did you mean "url"?`}},
		{"several", "a: 1\nb: 2\nc: 3\n", []string{"hub.yaml:1: a: unknown key", "(and 2 more; `devicehub config check` lists them)"}},

		{"raw too short for late readings", "readings:\n  late_max: 7d\n  retention:\n    raw: 7d\n", []string{"hub.yaml:4: readings.retention.raw: must be at least late_max and a day (8d)"}},
		{"late_max too long for raw", "readings:\n  late_max: 30d\n", []string{"readings.retention.raw: must be at least late_max and a day (31d)"}},
		{"more in flight than the window", "limits:\n  pushes_in_flight: 9\n", []string{"hub.yaml:2: limits.pushes_in_flight", "at most 4096", "4500"}},
		{"limit of nothing", "limits:\n  device_burst: 0\n", []string{"hub.yaml:2: limits.device_burst: must be between 1 and"}},
		{"no address", "http:\n  listen: \"4000\"\n", []string{`hub.yaml:2: http.listen: "4000" is no address to listen on`}},
		{"one port twice", "http: {listen: \":1883\"}\n", []string{"mqtt.embedded.listen: :1883 is taken by http.listen"}},
		{"MQTT over TLS without a certificate", "mqtt: {embedded: {tls_listen: \":8883\"}}\n", []string{"mqtt.embedded.tls_listen: needs a certificate"}},
		{"files without files", "http: {tls: {mode: files, cert: a.pem}}\n", []string{"http.tls.key: mode files needs"}},
		{"acme without domains", "http: {tls: {mode: acme}}\n", []string{"http.tls.acme_domains: mode acme needs"}},
		{"acme for an address", "http: {tls: {mode: acme, acme_domains: [localhost]}}\n", []string{`http.tls.acme_domains[0]: "localhost" is no public host name`}},
		{"acme of nowhere", "http: {tls: {acme_directory: ca.lan}}\n", []string{`http.tls.acme_directory: must be the https address`}},
		{"unknown mode", "http: {tls: {mode: on}}\n", []string{`http.tls.mode: must be off, files, self_signed or acme, not "on"`}},
		{"origin with a path", "http: {allowed_origins: [\"https://a.example/x\"]}\n", []string{"hub.yaml:1: http.allowed_origins[0]: must be scheme and host alone"}},
		{"no prefix", "http: {trusted_proxies: [10.0.0.0/40]}\n", []string{"http.trusted_proxies[0]"}},
		{"another registry", "registry: {url: \"postgres://x\"}\n", []string{"registry.url: must be sqlite"}},
		{"root with wildcard", "mqtt: {root: hub/#}\n", []string{"mqtt.root: must be the beginning of a topic"}},
		{"Influx without a bucket", "readings: {influx: {url: \"http://a:8086\"}}\n", []string{"readings.influx.bucket"}},
		{"Influx without a URL", "readings: {influx: {bucket: b}}\n", []string{"readings.influx.url"}},
		{"bridge without a name", "mqtt:\n  bridges:\n    - url: mqtt://a\n", []string{"hub.yaml:3: mqtt.bridges[0].name: every bridge needs a name"}},
		{"bridge without a URL", "mqtt:\n  bridges:\n    - name: a\n", []string{"mqtt.bridges[0].url"}},
		{"bridge named direct", "mqtt: {bridges: [{name: direct, url: \"mqtt://a\"}]}\n", []string{"mqtt.bridges[0].name"}},
		{"bridge twice", "mqtt: {bridges: [{name: a, url: \"mqtt://a\"}, {name: a, url: \"mqtt://b\"}]}\n", []string{"mqtt.bridges[1].name", "taken by another bridge"}},
		{"bridge by HTTP", "mqtt: {bridges: [{name: a, url: \"http://a\"}]}\n", []string{"mqtt.bridges[0].url: must be a broker's URL"}},
		{"password in the URL", "mqtt: {bridges: [{name: a, url: \"mqtt://u:p@a\"}]}\n", []string{"put the name and password into username and password"}},
		{"unknown adapter", "mqtt: {bridges: [{name: a, url: \"mqtt://a\", adapters: [{kind: knx}]}]}\n", []string{"mqtt.bridges[0].adapters[0].kind: must be native"}},
		{"planned adapter", "mqtt: {bridges: [{name: a, url: \"mqtt://a\", adapters: [{kind: shelly}]}]}\n", []string{"planned and not there yet"}},
		{"redacted secret", "auth: {initial_admin_password: (set)}\n", []string{"put the secret itself"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %q, want %q in it", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line", err)
			}
		})
	}
}

func TestSectionsWithoutKeys(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "http:\n  # listen: x\nmqtt:\n  bridges:\n"} {
		l, err := load(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if l.Config.HTTP.Listen != ":4000" {
			t.Errorf("%q: got listen %q, want the default", text, l.Config.HTTP.Listen)
		}
	}
}

func TestMissingFileGiven(t *testing.T) {
	_, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml"), nil)
	if err == nil || !strings.Contains(err.Error(), "none.yaml") || !strings.Contains(err.Error(), "--config") {
		t.Errorf("got %v, want an error that names the file and --config", err)
	}
}

func TestWrongVariables(t *testing.T) {
	t.Setenv("DEVICEHUB_LIMITS_INBOX", "lots")
	t.Setenv("DEVICEHUB_LOG_LEVEL", "loud")
	_, err := load(t, "")
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 1 || ps[0].String() != `DEVICEHUB_LIMITS_INBOX: limits.inbox: "lots" is not a whole number` {
		t.Errorf("got %v, want the variable named", err)
	}
	t.Setenv("DEVICEHUB_LIMITS_INBOX", "64")
	_, err = load(t, "")
	if err == nil || !strings.HasPrefix(err.Error(), "DEVICEHUB_LOG_LEVEL: log.level: must be debug, info") {
		t.Errorf("got %v, want the variable named", err)
	}
}

func TestUnknownVariablesWarn(t *testing.T) {
	t.Setenv("DEVICEHUB_HTTP_LISTENN", ":1")
	t.Setenv("DEVICEHUB_MQTT_BRIDGES", "x")
	t.Setenv("DEVICEHUB_TOKEN", "x")
	l, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"DEVICEHUB_HTTP_LISTENN: unknown variable, ignored; did you mean DEVICEHUB_HTTP_LISTEN?",
		"DEVICEHUB_MQTT_BRIDGES: ignored; lists come from the file only",
	}
	if !slices.Equal(l.Warnings, want) {
		t.Errorf("got %q, want %q", l.Warnings, want)
	}
}

func TestSecretsHaveNoFlag(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addConfigFlags(flags, nil)
	for _, name := range []string{"auth.initial-admin-password", "readings.influx.token", "mqtt.bridges"} {
		if flags.Lookup(name) != nil {
			t.Errorf("--%s: got a flag, want none", name)
		}
	}
	if err := flags.Parse([]string{"--limits.inbox=x"}); err == nil {
		t.Error("--limits.inbox=x: got no error")
	}
}

func TestBridgesAreCompleted(t *testing.T) {
	l, err := load(t, "mqtt:\n  root: my/hub\n  bridges:\n    - {name: house, url: \"mqtt://a:1883\", password: geheim}\n    - {name: site, url: \"wss://b/mqtt\", client_id: me, root: x, trust: topic, adapters: [{kind: z2m, base: zb}, {}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []BridgeConfig{
		{Name: "house", URL: "mqtt://a:1883", Password: "geheim", ClientID: "devicehub-house", Root: "my/hub", Trust: "token", Adapters: []AdapterConfig{{Kind: "native"}}},
		{Name: "site", URL: "wss://b/mqtt", ClientID: "me", Root: "x", Trust: "topic", Adapters: []AdapterConfig{{Kind: "z2m", Base: "zb"}, {Kind: "native"}}},
	}
	if !reflect.DeepEqual(l.Config.MQTT.Bridges, want) {
		t.Errorf("got %+v, want %+v", l.Config.MQTT.Bridges, want)
	}
}

func TestShowHidesSecretsAndReadsBack(t *testing.T) {
	t.Setenv("DEVICEHUB_READINGS_INFLUX_TOKEN", "influx-secret")
	l, err := load(t, `
auth: {initial_admin_password: admin-secret}
http: {allowed_origins: ["https://a.example"]}
readings: {influx: {url: "http://i:8086", bucket: b}}
mqtt: {bridges: [{name: a, url: "mqtt://a", password: bridge-secret}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	var y, j bytes.Buffer
	if err := errors.Join(l.showYAML(&y), l.showJSON(&j)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"influx-secret", "admin-secret", "bridge-secret"} {
		if strings.Contains(y.String(), s) || strings.Contains(j.String(), s) {
			t.Errorf("%s is shown", s)
		}
	}
	if got := strings.Count(y.String(), redacted); got != 3 {
		t.Errorf("got %d redacted secrets, want 3", got)
	}
	if !strings.Contains(y.String(), "DEVICEHUB_READINGS_INFLUX_TOKEN") {
		t.Error("the origin of the token is not shown")
	}
	if !json.Valid(j.Bytes()) {
		t.Errorf("got %s, want JSON", j.String())
	}
	if _, ps := parseYAML("shown", y.Bytes()); len(ps) > 0 {
		t.Errorf("the shown file does not read back: %v", ps)
	}
}

func TestDiffSaysWhatIsLive(t *testing.T) {
	a, b := Default(), Default()
	b.Log.Level = "debug"
	b.Limits.DeviceBurst = 7
	b.HTTP.Listen = ":1"
	b.MQTT.Bridges = []BridgeConfig{{Name: "x"}}
	live, restart := a.Diff(b)
	if want := []string{"limits.device_burst", "log.level"}; !slices.Equal(live, want) {
		t.Errorf("live: got %v, want %v", live, want)
	}
	if want := []string{"http.listen", "mqtt.bridges"}; !slices.Equal(restart, want) {
		t.Errorf("restart: got %v, want %v", restart, want)
	}
	c := a.TakeLive(b)
	if c.Log.Level != "debug" || c.Limits.DeviceBurst != 7 || c.HTTP.Listen != ":4000" || len(c.MQTT.Bridges) != 0 {
		t.Errorf("got %+v, want the live keys alone", c)
	}
	if a.Log.Level != "info" {
		t.Error("TakeLive changed what it was called on")
	}
}

// Every example loads; the one with every key has every key, at its default.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("got %v, %v, want the examples", files, err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			if _, err := LoadConfig(f, nil); err != nil {
				t.Error(err)
			}
		})
	}
	l, err := LoadConfig("../../configs/devicehub.example.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range configKeys() {
		if l.Origins[k.Path] == "" {
			t.Errorf("%s: missing in devicehub.example.yaml", k.Path)
		}
	}
	d := Default()
	live, restart := d.Diff(l.Config)
	for _, key := range append(live, restart...) {
		switch key {
		case "http.tls.acme_domains", "http.allowed_origins", "http.trusted_proxies", "mqtt.embedded.trusted_proxies", "mqtt.bridges": // empty instead of nil
		default:
			t.Errorf("%s: devicehub.example.yaml differs from the default", key)
		}
	}
}

func TestDurations(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		want    time.Duration
	}{
		{"30d", "30d", 720 * time.Hour},
		{"2y", "2y", 2 * 365 * 24 * time.Hour},
		{"1w", "7d", 168 * time.Hour},
		{"1d12h", "36h", 36 * time.Hour},
		{"1.5h", "1h30m", 90 * time.Minute},
		{"8760h", "1y", 8760 * time.Hour},
		{"90s", "1m30s", 90 * time.Second},
		{"500ms", "500ms", 500 * time.Millisecond},
		{"10m", "10m", 10 * time.Minute},
		{"0", "0", 0},
	} {
		d, err := ParseDuration(tt.in)
		if err != nil || d.Duration() != tt.want || d.String() != tt.out {
			t.Errorf("%s: got %v (%s), %v, want %v (%s)", tt.in, d.Duration(), d, err, tt.want, tt.out)
		}
	}
	for _, in := range []string{"", "7", "-1h", "1x", "h", "1h2", "1..5h", "300y", " ", "1 h", "99999999999999999999y"} {
		if d, err := ParseDuration(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, d)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		in, out string
		want    Size
	}{
		{"1048576", "1MiB", 1 << 20},
		{"64KiB", "64KiB", 64 << 10},
		{"10GB", "10000000000", 1e10},
		{"1.5 GiB", "1536MiB", 3 << 29},
		{"auto", "auto", AutoSize},
		{"0", "0", 0},
	} {
		s, err := ParseSize(tt.in)
		if err != nil || s != tt.want || s.String() != tt.out {
			t.Errorf("%s: got %d (%s), %v, want %d (%s)", tt.in, s, s, err, tt.want, tt.out)
		}
	}
	for _, in := range []string{"", "-1", "1.5", "1 lot", "GiB", "99999999TiB"} {
		if s, err := ParseSize(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, s)
		}
	}
}

// FuzzConfig: any file is refused or accepted, and what is accepted is shown
// and reads back.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"devicehub.example.yaml", "bridges.example.yaml", "public.example.yaml"} {
		b, err := os.ReadFile(filepath.Join("../../configs", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("a: &x [*x]\n"))
	f.Add([]byte("http: &h {listen: \":1\"}\nmqtt: *h\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "hub.yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := LoadConfig(path, nil)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line", err)
			}
			return
		}
		var out bytes.Buffer
		if err := l.showYAML(&out); err != nil {
			t.Fatal(err)
		}
		if _, ps := parseYAML("shown", out.Bytes()); len(ps) > 0 {
			t.Errorf("shown configuration does not read back: %v\n%s", ps, out.String())
		}
	})
}
