package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"devicehub/devices"

	"github.com/spf13/cobra"
)

const (
	tokenEnv   = "DEVICEHUB_TOKEN"
	adminWait  = 15 * time.Second // for a hub that is starting, or another command
	callWait   = 2 * time.Minute  // for an answer that does not stream
	maxAnswer  = 64 << 20         // bytes of one JSON answer
	apiVersion = "/api/v1"
)

// api is the hub's HTTP API, wherever the hub is.
type api struct {
	hc    *http.Client
	base  string // "http://host:4000"
	token string // "" for the admin socket and in process
	close func() error
	local bool // this command opened the stores itself
}

// connect finds the hub that a command is for: the one at --url; the one that
// holds the data folder; or none, and then this process opens the stores. A
// missing data folder is made only if create says so. The caller closes the
// api.
func (a *app) connect(cmd *cobra.Command, create bool) (*api, error) {
	if a.url != "" {
		return a.remote()
	}
	if a.tokenFile != "" {
		return nil, usagef("--token-file goes with --url; the hub on this machine asks for no token")
	}
	loaded, err := LoadConfig(a.configFile, cmd.Flags())
	if err != nil {
		return nil, err
	}
	cfg := loaded.Config
	if _, err := os.Stat(cfg.DataDir); errors.Is(err, fs.ErrNotExist) {
		if !create {
			return nil, fmt.Errorf("there is no data folder %s: run where the hub runs, name the folder with --data-dir or the file with --config, or a hub elsewhere with --url", cfg.DataDir)
		}
		fmt.Fprintf(a.err, "making data folder %s\n", cfg.DataDir)
	}
	deadline := time.Now().Add(adminWait)
	for {
		dir, err := OpenDataDir(cfg.DataDir)
		var locked *LockedError
		switch {
		case err == nil:
			return a.openLocal(cmd.Context(), cfg, dir)
		case !errors.As(err, &locked):
			return nil, err
		}
		conn, err := dialAdmin(locked.Path)
		if err == nil {
			conn.Close()
			return adminAPI(locked.Path), nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("admin socket: %w; run as the hub's user", err)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("process %d holds the data folder %s and does not answer on its admin socket: it is starting or ending; try again, and look at its log", locked.PID, locked.Path)
		}
		select {
		case <-cmd.Context().Done():
			return nil, context.Cause(cmd.Context())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// openLocal opens the stores in this process.
func (a *app) openLocal(ctx context.Context, cfg Config, dir *DataDir) (*api, error) {
	var level slog.LevelVar
	log := newLogger(a.err, cfg.Log, &level)
	level.Set(max(level.Level(), slog.LevelWarn)) // a command tells its own facts
	handler, closeStores, err := a.open(ctx, &Process{Config: cfg, Data: dir, Log: log, Out: a.err, Version: versionString()})
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &api{
		hc:    &http.Client{Transport: inProcess{handler}},
		base:  "http://devicehub",
		local: true,
		close: func() error { return errors.Join(closeStores(), dir.Close()) },
	}, nil
}

// adminAPI speaks to the hub that holds the data folder at path.
func adminAPI(path string) *api {
	t := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dialAdmin(path) },
	}
	return &api{
		hc:    &http.Client{Transport: t},
		base:  "http://devicehub",
		close: func() error { t.CloseIdleConnections(); return nil },
	}
}

// remote speaks to the hub at --url.
func (a *app) remote() (*api, error) {
	u, err := url.Parse(a.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usagef("--url must be the hub's address (https://hub.example.org), not %q", a.url)
	}
	token := os.Getenv(tokenEnv)
	if a.tokenFile != "" {
		b, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		token = string(b)
	}
	if token = strings.TrimSpace(token); token == "" && a.tokenFile != "" {
		return nil, fmt.Errorf("--token-file: %s is empty; put into it what `devicehub apitoken add` printed", a.tokenFile)
	} else if token == "" {
		return nil, usagef("a hub elsewhere asks for a token: give --token-file or %s (made there by `devicehub apitoken add NAME --rights read,admin`)", tokenEnv)
	}
	if strings.ContainsAny(token, " \r\n") {
		return nil, usagef("the token must be one word; the file or %s holds more", tokenEnv)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		fmt.Fprintln(a.err, "warning: the token crosses the network readable; use https")
	}
	hc := &http.Client{
		// A token is for the host that was named, not for one it points to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &api{
		hc:    hc,
		base:  u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/"),
		token: token,
		close: func() error { hc.CloseIdleConnections(); return nil },
	}, nil
}

// apiPath joins segments to a path below /api/v1, escaping each.
func apiPath(segments ...string) string {
	var b strings.Builder
	b.WriteString(apiVersion)
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// send makes one request; body, unless nil, goes as JSON. An answer other than
// 2xx becomes an error: the hub's *devices.Error where it sent one. The caller
// closes the answer's body.
func (c *api) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "devicehub-cli/"+strings.ReplaceAll(versionString(), " ", "-"))
	res, err := c.hc.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the whole URL
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("no answer from the hub: %w; look whether it runs", err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, refusal(res, c.token != "")
}

// refusal is the error in an answer.
func refusal(res *http.Response, remote bool) error {
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var e devices.Error
	if json.Unmarshal(b, &e) != nil || e.Code == "" {
		return fmt.Errorf("the answer was %s and not the hub's: look at --url", res.Status)
	}
	if list := listOf(res.Request.URL.Path); e.Code == devices.CodeNotFound && list != "" {
		return fmt.Errorf("%w; `devicehub %s` shows what there is", &e, list)
	}
	if !remote {
		return &e
	}
	switch e.Code {
	case devices.CodeUnauthorized, devices.CodeTokenExpired, devices.CodeTokenRevoked:
		return fmt.Errorf("%w: make a new token on the hub's machine with `devicehub apitoken add NAME --rights read,admin`", &e)
	case devices.CodeForbidden:
		return fmt.Errorf("%w: the token lacks a right; `devicehub apitoken add` on the hub's machine makes one that has it", &e)
	}
	return &e
}

// listOf is the command that shows the things of which a path names one.
func listOf(path string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(path, apiVersion+"/"), "/")
	return map[string]string{"devices": "device list", "users": "user list", "apitokens": "apitoken list", "keys": "key list"}[kind]
}

// call makes one request and reads its JSON answer into out, unless nil.
func (c *api) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callWait, fmt.Errorf("the hub did not answer within %s: look at its log", callWait))
	defer cancel()
	res, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the hub's answer broke off: %w; try again", err)
	}
	if out == nil || len(b) == 0 { // 204
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("the hub's answer is not understood (%w): use the devicehub of the same version", err)
	}
	return nil
}
