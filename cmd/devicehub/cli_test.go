package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/devices"
)

// recorder is an API that notes what it was asked and answers from a table.
type recorder struct {
	mu      sync.Mutex
	calls   []string          // "POST /api/v1/devices {…}"
	answers map[string]string // by "METHOD path"
	fail    *devices.Error
	token   string // what the last call carried
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	line := strings.TrimSpace(req.Method + " " + req.URL.RequestURI() + " " + string(b))
	r.calls = append(r.calls, line)
	r.token = strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	if r.fail != nil {
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(r.fail)
		return
	}
	answer, ok := r.answers[req.Method+" "+req.URL.RequestURI()]
	if !ok {
		answer = r.answers[req.Method+" "+req.URL.Path]
	}
	if answer == "" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	io.WriteString(w, answer)
}

func (r *recorder) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == 0 {
		return ""
	}
	return r.calls[len(r.calls)-1]
}

// result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// offline runs a command on a data folder without a hub; api stands for the
// stores.
func offline(t *testing.T, api http.Handler, in string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{
		in: strings.NewReader(in), out: &out, err: &errs,
		open: func(_ context.Context, p *Process) (http.Handler, func() error, error) {
			if p.Data == nil {
				t.Error("the stores are opened without the folder")
			}
			return api, func() error { return nil }, nil
		},
	}
	code := a.run(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

// dataFolder makes one, so that commands find it.
func dataFolder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	d, err := OpenDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	return path
}

const created = `{"device":{"id":"kitchen-temp"},"token":"eyJ.x.y","expires_at":1795219200000,"issuer":"devicehub"}`

func TestCommandsAskTheAPI(t *testing.T) {
	dir := dataFolder(t)
	for _, tt := range []struct {
		args, want string
	}{
		{"device add kitchen-temp --kind sensor", `POST /api/v1/devices {"id":"kitchen-temp","kinds":["sensor"]}`},
		{"device add lamp --kind light --kind sensor --name Lamp --label room=kitchen --label a=b=c --mode rgb,color_temp --min-kelvin 2200 --expected-interval 10s --sleepy",
			`POST /api/v1/devices {"expected_interval_s":10,"id":"lamp","kinds":["light","sensor"],"labels":{"a":"b=c","room":"kitchen"},"light":{"min_kelvin":2200,"modes":["rgb","color_temp"]},"name":"Lamp","sleepy":true}`},
		{"device add lamp --kind light --reuse", `POST /api/v1/devices?reuse=true {"id":"lamp","kinds":["light"]}`},
		{"device update lamp --area hall --unlabel room --label a=1", `PATCH /api/v1/devices/lamp {"area":"hall","labels":{"a":"1","room":null}}`},
		{"device update lamp --area hall --if-ver 7", `PATCH /api/v1/devices/lamp {"area":"hall","if_ver":7}`},
		{"device rm lamp --if-ver 7", `DELETE /api/v1/devices/lamp?if_ver=7`},
		{"device update lamp --name Other --sleepy=false", `PATCH /api/v1/devices/lamp {"name":"Other","sleepy":false}`},
		{"device disable lamp", `PATCH /api/v1/devices/lamp {"enabled":false}`},
		{"device enable lamp", `PATCH /api/v1/devices/lamp {"enabled":true}`},
		{"device rm lamp", `DELETE /api/v1/devices/lamp`},
		{"device rm lamp --keep-readings", `DELETE /api/v1/devices/lamp?keep_readings=true`},
		{"device show lamp", `GET /api/v1/devices/lamp`},
		{"token issue lamp --ttl 30d", `POST /api/v1/devices/lamp/tokens {"mode":"issue","ttl_s":2592000}`},
		{"token rotate lamp --grace 1h", `POST /api/v1/devices/lamp/tokens {"grace_s":3600,"mode":"rotate"}`},
		{"token issue lamp --short", `POST /api/v1/devices/lamp/tokens {"form":"short","mode":"issue"}`},
		{"token issue lamp --bridge house", `POST /api/v1/devices/lamp/tokens {"bridge":"house","mode":"issue"}`},
		{"token rotate lamp --grace 0", `POST /api/v1/devices/lamp/tokens {"grace_s":0,"mode":"rotate"}`},
		{"token revoke lamp", `DELETE /api/v1/devices/lamp/tokens`},
		{"user add ana --role operator --scope area=kitchen --password-stdin", `POST /api/v1/users {"password":"secret words","role":"operator","scope":"area=kitchen","username":"ana"}`},
		{"user passwd ana --password-stdin", `PATCH /api/v1/users/ana {"password":"secret words"}`},
		{"user rm ana", `DELETE /api/v1/users/ana`},
		{"apitoken add exporter --rights read,command --ttl 90d --topics zigbee2mqtt/#", `POST /api/v1/apitokens {"name":"exporter","rights":["read","command"],"topics":["zigbee2mqtt/#"],"ttl_s":7776000}`},
		{"apitoken rm exporter", `DELETE /api/v1/apitokens/exporter`},
		{"key rotate", `POST /api/v1/keys {}`},
		{"key revoke 2026/11", `DELETE /api/v1/keys/2026%2F11`},
		{"clock accept", `POST /api/v1/clock/accept`},
		{"sink replay influx", `POST /api/v1/sinks/influx/replay`},
		{"readings check", `GET /api/v1/readings/check`},
		{"readings check --repair", `POST /api/v1/readings/repair {"misfiled":false}`},
		{"readings check --repair --misfiled --json", `POST /api/v1/readings/repair {"misfiled":true}`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			api := &recorder{answers: map[string]string{
				"POST /api/v1/devices":             created,
				"GET /api/v1/devices/lamp":         `{"id":"lamp","labels":{"room":"kitchen","keep":"me"}}`,
				"POST /api/v1/devices/lamp/tokens": `{"token":"t","gen":2,"expires_at":1795219200000}`,
				"POST /api/v1/apitokens":           `{"token":"s"}`,
				"POST /api/v1/keys":                `{"kid":"k"}`,
			}}
			r := offline(t, api, "secret words\n", append(strings.Fields(tt.args), "--data-dir", dir)...)
			if r.code != exitDone {
				t.Fatalf("got exit %d: %s", r.code, r.err)
			}
			if got := api.last(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if strings.Contains(r.out+r.err, "secret words") {
				t.Error("the password was printed")
			}
		})
	}
}

func TestTokenStandsAloneOnStdout(t *testing.T) {
	dir := dataFolder(t)
	api := &recorder{answers: map[string]string{"POST /api/v1/devices": created}}
	r := offline(t, api, "", "device", "add", "kitchen-temp", "--kind", "sensor", "--data-dir", dir)
	if r.out != "eyJ.x.y\n" {
		t.Errorf("stdout: got %q, want the token alone", r.out)
	}
	if !strings.Contains(r.err, "kitchen-temp is registered as sensor") || !strings.Contains(r.err, "good until 2026-1") || strings.Contains(r.err, "eyJ") {
		t.Errorf("stderr: got %q, want the facts without the token", r.err)
	}
	r = offline(t, api, "", "device", "add", "kitchen-temp", "--kind", "sensor", "--json", "--data_dir", dir)
	if !json.Valid([]byte(r.out)) || !strings.Contains(r.out, `"issuer": "devicehub"`) {
		t.Errorf("--json: got %q, want the whole answer", r.out)
	}
}

func TestWrongUsage(t *testing.T) {
	dir := dataFolder(t)
	for _, tt := range []struct{ args, want string }{
		{"", "devicehub needs a command: apitoken, audit, backup"},
		{"sevre", `unknown command "sevre", did you mean serve?`},
		{"device", "devicehub device needs a command: add, disable"},
		{"device lst", `unknown command "lst", did you mean list?`},
		{"device add", "device add takes ID; it was given nothing"},
		{"device add Kitchen --kind sensor", `"Kitchen" is no device id`},
		{"device add a b --kind sensor", "device add takes ID; it was given a b"},
		{"device add a", "give --kind sensor"},
		{"device add a --kind switch", `unknown kind "switch"`},
		{"device add a --kind sensor --label x", `"x" must be k=v`},
		{"device add a --kind sensor --expected-interval soon", "--expected-interval"},
		{"device add a --kind light --mode disco", `unknown mode "disco"`},
		{"device add a --kind light --min-kelvin 2000", "need its --mode"},
		{"device add a --kind sensor --device-config [1]", "must be a JSON object"},
		{"device update a --if-ver 7", "nothing to change"},
		{"device rm a b --if-ver 7", "name one device"},
		{"device update a", "nothing to change"},
		{"device list --nope", "unknown flag: --nope"},
		{"device list --limit -1", "--limit: must not be negative"},
		{"device show -- -x", `"-x" is no device id`},
		{"token issue a --ttl 5", "--ttl"},
		{"token issue a --short --bridge house", "do not go together"},
		{"user add ana --role king --password-stdin", "--role must be"},
		{"user add ana --role viewer", "give it with --password-stdin"},
		{"user add ana --role viewer --password-stdin --scope x", "--scope"},
		{"apitoken add x", "give --rights"},
		{"apitoken add x --rights root", `unknown right "root"`},
		{"readings", "devicehub readings needs a command: check"},
		{"readings check --misfiled", "--misfiled goes with --repair"},
		{"audit", "devicehub audit needs a command: export, list, prune"},
		{"audit list --outcome good", "--outcome must be"},
		{"audit list --limit -1", "--limit must not be negative"},
		{"audit list --from yesterday", `--from: "yesterday" is no time`},
		{"audit export --format xml", "--format must be"},
		{"audit prune --before x", "--before"},
		{"serve extra", "serve takes no arguments; it was given extra"},
		{"serve --limits.inbox many", "limits.inbox"},
		{"serve --url http://h", "leave out --url"},
		{"restore f --url http://h", "leave out --url"},
		{"config show --url http://h", "leave out --url"},
		{"device list --url ftp://h", "--url must be"},
		{"device list --url http://127.0.0.1:1", "asks for a token"},
		{"device list --token-file x", "--token-file goes with --url"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			r := offline(t, &recorder{}, "", append([]string{"--data-dir", dir}, strings.Fields(tt.args)...)...)
			if r.code != exitUsage || !strings.Contains(r.err, tt.want) {
				t.Errorf("got exit %d and %q, want 2 and %q", r.code, r.err, tt.want)
			}
			if strings.Count(r.err, "\n") != 1 || !strings.Contains(r.err, "--help`") {
				t.Errorf("got %q, want one line that names the help", r.err)
			}
		})
	}
}

func TestRefusalIsOneLine(t *testing.T) {
	dir := dataFolder(t)
	api := &recorder{fail: devices.Refuse(devices.CodeConflict, "the id is taken")}
	r := offline(t, api, "", "device", "add", "a", "--kind", "sensor", "--data-dir", dir)
	if r.code != exitFailed || r.out != "" || !strings.Contains(r.err, "the id is taken") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("got exit %d, %q, %q; want 1 and the reason in one line", r.code, r.out, r.err)
	}
	for args, list := range map[string]string{"device show a": "device list", "token revoke a": "device list", "user rm a": "user list", "apitoken rm a": "apitoken list", "key revoke a": "key list"} {
		api := &recorder{fail: devices.NotFound("thing")}
		if r := offline(t, api, "", append(strings.Fields(args), "--data-dir", dir)...); r.code != exitFailed || !strings.Contains(r.err, "`devicehub "+list+"`") {
			t.Errorf("%s: got exit %d, %q; want 1 and what shows the names", args, r.code, r.err)
		}
	}
}

func TestMissingDataFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	r := offline(t, &recorder{}, "", "device", "list", "--data-dir", dir)
	if r.code != exitFailed || !strings.Contains(r.err, "there is no data folder") || !strings.Contains(r.err, "--url") {
		t.Errorf("list: got exit %d, %q; want 1 and what to do", r.code, r.err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("list made the folder")
	}
	api := &recorder{answers: map[string]string{"POST /api/v1/devices": created}}
	r = offline(t, api, "", "device", "add", "a", "--kind", "sensor", "--data-dir", dir)
	if r.code != exitDone || !strings.Contains(r.err, "making data folder") {
		t.Errorf("add: got exit %d, %q; want 0 and the folder named", r.code, r.err)
	}
}

func TestListsReadEveryPage(t *testing.T) {
	dir := dataFolder(t)
	api := &recorder{answers: map[string]string{
		"GET /api/v1/devices?kind=light&label=room%3Akitchen&limit=200":           `{"devices":[{"id":"a","name":"A\u001b[31m","kinds":["light"],"status":{"state":"online"},"latest":{"power":{"v":3.5,"u":"W"}}}],"next_cursor":"c2","total":2}`,
		"GET /api/v1/devices?cursor=c2&kind=light&label=room%3Akitchen&limit=200": `{"devices":[{"id":"b","kinds":["light"],"status":{"state":"offline","reason":"client_close"}}],"next_cursor":"","total":2}`,
		"GET /api/v1/users": `{"users":[{"name":"ana","role":"viewer","scope":"area=kitchen","created_at":1}]}`,
		"GET /api/v1/keys":  `{"keys":[]}`,
	}}
	r := offline(t, api, "", "device", "list", "--kind", "light", "--label", "room=kitchen", "--data-dir", dir)
	if r.code != exitDone || !strings.Contains(r.out, "power 3.5 W") || !strings.Contains(r.out, "offline (client_close)") {
		t.Errorf("got exit %d, %q %q", r.code, r.out, r.err)
	}
	if strings.Contains(r.out, "\x1b") {
		t.Error("a device's name steers the terminal")
	}
	r = offline(t, api, "", "device", "list", "--kind", "light", "--label", "room=kitchen", "--json", "--data-dir", dir)
	var got struct {
		Devices []struct{ ID string }
		Total   int
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || len(got.Devices) != 2 || got.Total != 2 {
		t.Errorf("--json: got %q, %v, want both devices", r.out, err)
	}
	r = offline(t, api, "", "user", "list", "--data-dir", dir)
	if !strings.Contains(r.out, "area=kitchen") || !strings.HasPrefix(r.out, "NAME") {
		t.Errorf("user list: got %q", r.out)
	}
	r = offline(t, api, "", "key", "list", "--json", "--data-dir", dir)
	if strings.Join(strings.Fields(r.out), "") != `{"keys":[]}` {
		t.Errorf("key list --json: got %q, want an empty list", r.out)
	}
}

func TestRemoteHub(t *testing.T) {
	api := &recorder{answers: map[string]string{"GET /api/v1/devices": `{"devices":[]}`}}
	srv := httptest.NewServer(api)
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "file-token\n")
	if r := offline(t, nil, "", "device", "list", "--url", srv.URL, "--token-file", file); r.code != exitDone || api.token != "file-token" {
		t.Errorf("got exit %d (%s), token %q; want 0, file-token", r.code, r.err, api.token)
	}
	t.Setenv("DEVICEHUB_TOKEN", "env-token")
	if r := offline(t, nil, "", "device", "list", "--url", srv.URL); r.code != exitDone || api.token != "env-token" {
		t.Errorf("got exit %d (%s), token %q; want 0, env-token", r.code, r.err, api.token)
	}
	api.fail = devices.Refuse(devices.CodeUnauthorized, "no")
	r := offline(t, nil, "", "device", "list", "--url", srv.URL)
	if r.code != exitFailed || !strings.Contains(r.err, "apitoken add") || strings.Contains(r.err, "env-token") {
		t.Errorf("got exit %d, %q; want 1, what to do and no token", r.code, r.err)
	}
	srv.Close()
	if r := offline(t, nil, "", "device", "list", "--url", srv.URL); r.code != exitFailed || !strings.Contains(r.err, "no answer from the hub") {
		t.Errorf("hub gone: got exit %d, %q", r.code, r.err)
	}
}

func TestTokenIsNotSentWhereARedirectPoints(t *testing.T) {
	other := &recorder{}
	thief := httptest.NewServer(other)
	defer thief.Close()
	srv := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	t.Setenv("DEVICEHUB_TOKEN", "env-token")
	r := offline(t, nil, "", "device", "list", "--url", srv.URL)
	if r.code != exitFailed || len(other.calls) > 0 {
		t.Errorf("got exit %d and calls %v, want 1 and none", r.code, other.calls)
	}
}

// While a hub holds the folder, commands speak to it; they wait for one that
// is just starting.
func TestCommandsFindTheRunningHub(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	api := &recorder{answers: map[string]string{"GET /api/v1/devices": `{"devices":[]}`}}
	var log bytes.Buffer
	hub := &app{out: io.Discard, err: &log, serve: func(ctx context.Context, p *Process) error {
		time.Sleep(100 * time.Millisecond) // it replays its log
		l, err := p.Data.ListenAdmin()
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: api}
		done := make(chan error, 1)
		go func() { done <- srv.Serve(l) }()
		<-ctx.Done()
		srv.Close()
		<-done
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- hub.run(ctx, []string{"serve", "--data-dir", dir}) }()
	for {
		if _, err := os.Stat(filepath.Join(dir, "format")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	a := func(args ...string) result {
		return offlineMustNotOpen(t, append(args, "--data-dir", dir)...)
	}
	if r := a("device", "list"); r.code != exitDone {
		t.Errorf("got exit %d: %s", r.code, r.err)
	}
	if r := a("serve"); r.code != exitFailed || !strings.Contains(r.err, "is in use by process "+fmt.Sprint(os.Getpid())) {
		t.Errorf("second serve: got exit %d, %q", r.code, r.err)
	}
	if r := a("restore", "../../go.mod"); r.code != exitFailed || !strings.Contains(r.err, "is in use by process") {
		t.Errorf("restore beside a hub: got exit %d, %q", r.code, r.err)
	}
	cancel()
	if code := <-ended; code != exitDone {
		t.Errorf("serve: got exit %d, want 0: %s", code, log.String())
	}
}

func offlineMustNotOpen(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, err: &errs,
		open: func(context.Context, *Process) (http.Handler, func() error, error) {
			t.Error("the stores were opened beside a running hub")
			return nil, nil, errors.New("no")
		},
		serve: func(context.Context, *Process) error { t.Error("a second hub ran"); return nil },
		restore: func(context.Context, *Process, io.Reader, bool) ([]string, error) {
			t.Error("restored")
			return nil, nil
		},
	}
	code := a.run(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

func TestBackupIsWholeAndPrivate(t *testing.T) {
	dir := dataFolder(t)
	file := filepath.Join(t.TempDir(), "hub.backup")
	api := &recorder{answers: map[string]string{"POST /api/v1/backup": strings.Repeat("0123456789", 100_000)}}
	r := offline(t, api, "", "backup", file, "--without-keys", "--data-dir", dir)
	if r.code != exitDone || api.last() != `POST /api/v1/backup {"without_keys":true}` {
		t.Fatalf("got exit %d, %q, %q", r.code, r.err, api.last())
	}
	if b, err := os.ReadFile(file); err != nil || len(b) != 1_000_000 {
		t.Errorf("got %d bytes, %v, want all", len(b), err)
	}
	if got := mode(t, file); got != 0o600 {
		t.Errorf("got mode %04o, want 0600", got)
	}
	broken := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		panic("disk")
	})
	if r := offline(t, broken, "", "backup", file, "--data-dir", dir); r.code != exitFailed {
		t.Errorf("broken backup: got exit %d", r.code)
	}
	if b, _ := os.ReadFile(file); len(b) != 1_000_000 {
		t.Error("a broken backup replaced the good one")
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(names) != 1 {
		t.Errorf("got files %v, want the backup alone", names)
	}
}

func TestRestoreTellsFacts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(t.TempDir(), "hub.backup")
	write(t, file, "archive")
	var out, errs bytes.Buffer
	a := &app{out: &out, err: &errs, restore: func(_ context.Context, p *Process, r io.Reader, all bool) ([]string, error) {
		b, err := io.ReadAll(r)
		if string(b) != "archive" || !all || p.Data == nil {
			t.Errorf("got %q, revoke-all %t, folder %v", b, all, p.Data)
		}
		return []string{"later revocations are unknown"}, err
	}}
	if code := a.run(t.Context(), []string{"restore", file, "--revoke-all", "--data-dir", dir}); code != exitDone || !strings.Contains(errs.String(), "unknown") {
		t.Errorf("got exit %d, %q", code, errs.String())
	}
	if code := a.run(t.Context(), []string{"restore", file + "x", "--data-dir", dir}); code != exitFailed {
		t.Errorf("missing file: got exit %d", code)
	}
}

func TestTrace(t *testing.T) {
	dir := dataFolder(t)
	r := offline(t, &recorder{}, "", "trace", "a", "--data-dir", dir)
	if r.code != exitFailed || !strings.Contains(r.err, "no hub runs") {
		t.Errorf("without a hub: got exit %d, %q", r.code, r.err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "{\"n\":%d}\n", i)
			w.(http.Flusher).Flush()
		}
	}))
	defer srv.Close()
	t.Setenv("DEVICEHUB_TOKEN", "x")
	if r := offline(t, nil, "", "trace", "a", "--url", srv.URL); r.out != "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n" {
		t.Errorf("got %q, %q", r.out, r.err)
	}
}

func TestConfigCommands(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	write(t, good, "http: {listen: \":4444\"}\n")
	write(t, bad, "a: 1\nb: 2\nlog: {level: 3}\n")
	if r := offline(t, nil, "", "config", "check", "--config", good); r.code != exitDone || !strings.Contains(r.out, "is good") {
		t.Errorf("check good: got exit %d, %q %q", r.code, r.out, r.err)
	}
	r := offline(t, nil, "", "config", "check", "--config", bad)
	if r.code != exitFailed || strings.Count(r.err, "\n") != 3 || !strings.Contains(r.err, "bad.yaml:1: a: unknown key") || !strings.Contains(r.err, "bad.yaml:3: log.level") {
		t.Errorf("check bad: got exit %d, %q; want three lines", r.code, r.err)
	}
	r = offline(t, nil, "", "config", "show", "--config", good, "--log.level", "debug")
	if r.code != exitDone || !strings.Contains(r.out, ":4444") || !strings.Contains(r.out, "level: debug # --log.level") {
		t.Errorf("show: got exit %d, %q %q", r.code, r.out, r.err)
	}
	r = offline(t, nil, "", "config", "show", "--json", "--config", good)
	if !json.Valid([]byte(r.out)) {
		t.Errorf("show --json: got %q", r.out)
	}
	if r := offline(t, nil, "", "version"); r.code != exitDone || !strings.HasPrefix(r.out, "devicehub ") {
		t.Errorf("version: got exit %d, %q", r.code, r.out)
	}
}

// Every verb that the product promises is there, and says what it is for.
func TestEveryCommandIsThere(t *testing.T) {
	root := (&app{}).root()
	for _, path := range []string{
		"serve", "device add", "device list", "device show", "device update", "device disable", "device enable", "device rm",
		"token issue", "token rotate", "token revoke", "user add", "user list", "user passwd", "user rm",
		"apitoken add", "apitoken list", "apitoken rm", "key list", "key rotate", "key revoke",
		"clock accept", "trace", "sink list", "sink replay", "backup", "restore", "config check", "config show", "version",
	} {
		words := strings.Fields(path)
		cmd, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 || cmd.Name() != words[len(words)-1] || cmd.Short == "" {
			t.Errorf("%s: got %v, %v, %v", path, cmd.CommandPath(), rest, err)
		}
		if lists := []string{"list", "show"}; slices.Contains(lists, cmd.Name()) && cmd.Flags().Lookup("json") == nil {
			t.Errorf("%s: got no --json", path)
		}
	}
}
