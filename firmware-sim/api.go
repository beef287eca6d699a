package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// API is a person at the hub's HTTP API (devices/httpapi): an administrator, who registers devices and reads
// everything back.
type API struct {
	base               *url.URL
	http               *http.Client
	username, password string

	mu    sync.Mutex
	token string
	fixed bool      // the token was given, there is no password to get another with
	until time.Time // when to get another
}

// NewAPI returns an API client that signs in with a name and a password, or, if token is not empty, with that.
func NewAPI(hub *url.URL, username, password, token string) *API {
	return &API{
		base: hub, username: username, password: password, token: token, fixed: token != "",
		http: &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second, DisableCompression: true}},
	}
}

// dial has the client connect in another way.
func (a *API) dial(f dialFunc) { a.http.Transport.(*http.Transport).DialContext = f }

// An APIError is an answer with the hub's error body.
type APIError struct {
	Status  int             `json:"-"`
	Code    string          `json:"code"`
	Reason  string          `json:"reason"`
	Details json.RawMessage `json:"details"`
	Retry   float64         `json:"retry_after_ms"`
}

func (e *APIError) Error() string {
	return fmt.Sprintf("the hub answered %d %s: %s", e.Status, e.Code, e.Reason)
}

// Login signs in, if a token was not given. It is called when needed by the others too.
func (a *API) Login(ctx context.Context) error {
	_, err := a.bearer(ctx, false)
	return err
}

// Close lets go of idle connections.
func (a *API) Close() { a.http.CloseIdleConnections() }

// Token returns a token for a socket.
func (a *API) Token(ctx context.Context) (string, error) { return a.bearer(ctx, false) }

func (a *API) bearer(ctx context.Context, renew bool) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fixed || !renew && a.token != "" && time.Now().Before(a.until) {
		return a.token, nil
	}
	var out struct {
		Token     string          `json:"token"`
		ExpiresAt json.RawMessage `json:"expires_at"`
	}
	body := map[string]string{"username": a.username, "password": a.password}
	if err := a.once(ctx, http.MethodPost, "/login", nil, body, "", &out); err != nil {
		return "", fmt.Errorf("sign in as %s: %w", a.username, err)
	}
	a.token = out.Token
	a.until = time.Now().Add(10 * time.Minute) // of the 15 that it lives
	return a.token, nil
}

// unhurried is for how long a call waits its turn that is one too many for one person.
const unhurried = time.Minute

// itsTurn waits until a call may be made again that the hub has refused for its caller's rate, and
// reports whether it may.
func itsTurn(ctx context.Context, began time.Time, err error) bool {
	e, ok := errors.AsType[*APIError](err)
	if !ok || e.Status != http.StatusTooManyRequests || time.Since(began) > unhurried {
		return false
	}
	wait := time.Duration(min(max(e.Retry, 50), 5000)) * time.Millisecond
	sleep(ctx, wait+rand.N(wait)) // others wait, too
	return ctx.Err() == nil
}

// call makes one request as the person, when it is its turn.
func (a *API) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	for began := time.Now(); ; {
		if err := a.callNow(ctx, method, path, query, in, out); !itsTurn(ctx, began, err) {
			return err
		}
	}
}

// callNow is call for what would not be the same later; an expired token is renewed once.
func (a *API) callNow(ctx context.Context, method, path string, query url.Values, in, out any) error {
	for try := 0; ; try++ {
		tok, err := a.bearer(ctx, try > 0)
		if err != nil {
			return err
		}
		err = a.once(ctx, method, path, query, in, tok, out)
		if e, ok := errors.AsType[*APIError](err); ok && e.Status == http.StatusUnauthorized && try == 0 && !a.fixed {
			continue
		}
		return err
	}
}

// patient is call that outlasts a hub that is away for up to limit. For calls that may be repeated.
func (a *API) patient(ctx context.Context, limit time.Duration, method, path string, query url.Values, in, out any) error {
	deadline := time.Now().Add(limit)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := a.call(ctx, method, path, query, in, out)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if e, ok := errors.AsType[*APIError](err); ok && e.Status < 500 {
			return err
		}
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

func (a *API) once(ctx context.Context, method, path string, query url.Values, in any, token string, out any) error {
	resp, err := a.open(ctx, method, path, query, in, token)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// open returns the answer if it is a good one; the caller closes it.
func (a *API) open(ctx context.Context, method, path string, query url.Values, in any, token string) (*http.Response, error) {
	u := *a.base
	u.Path += "/api/v1" + path
	u.RawQuery = query.Encode()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	e := &APIError{Status: resp.StatusCode}
	if json.Unmarshal(raw, e) != nil || e.Code == "" {
		e.Code, e.Reason = http.StatusText(resp.StatusCode), string(raw[:min(len(raw), 200)])
	}
	return nil, fmt.Errorf("%s %s: %w", method, path, e)
}

// Reachable reports whether the hub answers GET /healthz within a while.
func (a *API) Reachable(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	u := *a.base
	u.Path += "/healthz"
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return false
		}
		if resp, err := a.http.Do(req); err == nil {
			resp.Body.Close()
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// NewDevice is the body of POST /devices.
type NewDevice struct {
	ID              string            `json:"id"`
	Kinds           []string          `json:"kinds"`
	Name            string            `json:"name,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Area            string            `json:"area,omitempty"`
	Via             string            `json:"via,omitempty"`
	Light           *LightDecl        `json:"light,omitempty"`
	ExpectedSeconds int               `json:"expected_interval_s,omitempty"`
}

// LightDecl declares what a light can do.
type LightDecl struct {
	Modes     []string `json:"modes"`
	MinKelvin int      `json:"min_kelvin,omitempty"`
	MaxKelvin int      `json:"max_kelvin,omitempty"`
	Effects   []string `json:"effects,omitempty"`
}

// Register makes devices, all or none, and returns their tokens by id.
func (a *API) Register(ctx context.Context, ds []NewDevice) (map[string]string, error) {
	var out struct {
		Devices []struct {
			Device struct {
				ID string `json:"id"`
			} `json:"device"`
			Token string `json:"token"`
		} `json:"devices"`
	}
	if err := a.call(ctx, http.MethodPost, "/devices", nil, ds, &out); err != nil {
		return nil, err
	}
	tokens := make(map[string]string, len(ds))
	for _, d := range out.Devices {
		tokens[d.Device.ID] = d.Token
	}
	for _, d := range ds {
		if tokens[d.ID] == "" {
			return nil, fmt.Errorf("the hub made %d devices of %d; no token for %s", len(out.Devices), len(ds), d.ID)
		}
	}
	return tokens, nil
}

// Remove deletes a device and its readings, if it is there.
func (a *API) Remove(ctx context.Context, id string) error { return a.delete(ctx, "/devices/"+id) }

// Revoke ends every token of a device.
func (a *API) Revoke(ctx context.Context, id string) error {
	return a.patient(ctx, 10*time.Second, http.MethodDelete, "/devices/"+id+"/tokens", nil, nil, nil)
}

// Issue returns a new token of a device, IssueBridge one that is good on messages through a bridge alone.
func (a *API) Issue(ctx context.Context, id string) (string, error) {
	return a.issue(ctx, id, map[string]string{"mode": "issue"})
}

func (a *API) IssueBridge(ctx context.Context, id, bridge string) (string, error) {
	return a.issue(ctx, id, map[string]string{"mode": "issue", "bridge": bridge})
}

func (a *API) issue(ctx context.Context, id string, body map[string]string) (string, error) {
	var out struct {
		Token string `json:"token"`
	}
	err := a.patient(ctx, 10*time.Second, http.MethodPost, "/devices/"+id+"/tokens", nil, body, &out)
	return out.Token, err
}

// AddViewer makes a person who may look at everything. If there is one of the name, that one goes.
func (a *API) AddViewer(ctx context.Context, name, password string) error {
	if err := a.RemoveUser(ctx, name); err != nil {
		return err
	}
	in := map[string]string{"username": name, "password": password, "role": "viewer"}
	return a.call(ctx, http.MethodPost, "/users", nil, in, nil)
}

// RemoveUser deletes a person, if there is one of that name.
func (a *API) RemoveUser(ctx context.Context, name string) error {
	return a.delete(ctx, "/users/"+name)
}

// AddAccount makes a service account that may read and use one topic filter, and returns its token.
// If there is one of the name, that one goes.
func (a *API) AddAccount(ctx context.Context, name, filter string) (string, error) {
	if err := a.RemoveAccount(ctx, name); err != nil {
		return "", err
	}
	in := map[string]any{"name": name, "rights": []string{"read"}, "topics": []string{filter}}
	var out struct {
		Token string `json:"token"`
	}
	err := a.call(ctx, http.MethodPost, "/apitokens", nil, in, &out)
	return out.Token, err
}

// RemoveAccount deletes a service account, if there is one of that name.
func (a *API) RemoveAccount(ctx context.Context, name string) error {
	return a.delete(ctx, "/apitokens/"+name)
}

// delete removes what may not be there.
func (a *API) delete(ctx context.Context, path string) error {
	err := a.patient(ctx, 10*time.Second, http.MethodDelete, path, nil, nil, nil)
	if e, ok := errors.AsType[*APIError](err); ok && e.Status == http.StatusNotFound {
		return nil
	}
	return err
}

// Bridge is what the hub says of one of its bridges.
type Bridge struct {
	Name      string `json:"name"`
	Connected bool   `json:"connected"`
	Received  int64  `json:"received"`
	Waiting   int    `json:"waiting"` // messages not yet decided
}

// Bridges lists the hub's bridges.
func (a *API) Bridges(ctx context.Context) ([]Bridge, error) {
	var out struct {
		Bridges []Bridge `json:"bridges"`
	}
	err := a.call(ctx, http.MethodGet, "/bridges", nil, nil, &out)
	return out.Bridges, err
}

// Row is a device as the list shows it, as far as the judge looks.
type Row struct {
	ID     string `json:"id"`
	Status struct {
		State      string `json:"state"`
		Link       string `json:"link"`
		Reason     string `json:"reason"`
		Unverified bool   `json:"unverified"`
		Flapping   bool   `json:"flapping"`
	} `json:"status"`
}

// Device reads one.
func (a *API) Device(ctx context.Context, id string) (Row, error) {
	var r Row
	err := a.call(ctx, http.MethodGet, "/devices/"+id, nil, nil, &r)
	return r, err
}

// Devices lists the devices with a label, k:v, page by page.
func (a *API) Devices(ctx context.Context, label string, each func(Row)) error {
	return pages(func(query url.Values) (string, bool, error) {
		query.Set("label", label)
		var page struct {
			Devices []Row  `json:"devices"`
			Next    string `json:"next_cursor"`
		}
		err := a.call(ctx, http.MethodGet, "/devices", query, nil, &page)
		for _, r := range page.Devices {
			each(r)
		}
		return page.Next, len(page.Devices) > 0, err
	})
}

// Command issues one and, if wait is "done" or "confirmed", waits for that or for another end.
func (a *API) Command(ctx context.Context, device string, body map[string]any, wait string, limit time.Duration) (CommandRecord, error) {
	query := url.Values{}
	if wait != "" {
		query.Set("wait", wait)
		query.Set("timeout_ms", strconv.FormatInt(limit.Milliseconds(), 10))
	}
	var rec CommandRecord
	err := a.callNow(ctx, http.MethodPost, "/devices/"+device+"/commands", query, body, &rec)
	return rec, err
}
