package httpapi

import (
	"context"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"devicehub/devices"
	"devicehub/devices/commands"
)

// Commands bring what people want to devices; commands.Dispatcher is one.
type Commands interface {
	Issue(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, r commands.Request) (commands.Receipt, error)
	Cancel(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, cmdID string) (commands.Record, error)
	Get(ctx context.Context, a devices.Actor, id devices.ID, cmdID string) (commands.Record, error)
	History(ctx context.Context, a devices.Actor, id devices.ID, limit int, cursor string) ([]commands.Record, string, error)
	All(ctx context.Context, a devices.Actor, limit int, cursor string) ([]commands.Record, string, error)
	// Wait returns the record once the command is done or confirmed, as until
	// says, or can no longer become it; timeout with the cmd_id when ctx ends first.
	Wait(ctx context.Context, id devices.ID, cmdID, until string) (commands.Record, error)
}

const (
	defaultWait = 10 * time.Second
	maxWait     = 60 * time.Second
)

func (c *call) issueCommand() (answer, error) {
	d, err := c.seen()
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Commands == nil {
		return unavailable("commands")
	}
	until := c.query("wait")
	if until != "" && until != "done" && until != "confirmed" {
		return answer{}, devices.Invalid("wait", "done or confirmed")
	}
	ms, err := c.number("timeout_ms", int(defaultWait.Milliseconds()), 1, int(maxWait.Milliseconds()))
	if err != nil {
		return answer{}, err
	}
	var r commands.Request
	if err := c.body(&r); err != nil {
		return answer{}, err
	}
	key, err := c.idempotencyKey()
	if err != nil {
		return answer{}, err
	}
	if key != "" && r.CmdID == "" {
		r.CmdID = c.commandID(d.ID, key)
	}
	rc, err := c.api.s.Commands.Issue(c.Context(), c.actor, c.origin, d.ID, r)
	if err != nil {
		return answer{}, err
	}
	if until == "" {
		return answer{status: http.StatusAccepted, body: rc, location: base + "/devices/" + string(d.ID) + "/commands/" + rc.CmdID}, nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), time.Duration(ms)*time.Millisecond)
	defer cancel()
	defer context.AfterFunc(c.api.leaving, cancel)()
	rec, err := c.api.s.Commands.Wait(ctx, d.ID, rc.CmdID, until)
	if err != nil {
		return answer{}, err
	}
	return ok(rec)
}

// seen returns the device named by the path if the caller may know of it: one
// may command without reading. Whether they may command, the service decides.
func (c *call) seen() (*devices.Device, error) {
	return c.mayOver(c.PathValue("id"), devices.RightRead, devices.RightCommand)
}

// commandID makes the caller's key for a request a command id: the same key
// from the same caller for the same device is the same command. A key that has
// the form of a command id is one.
func (c *call) commandID(id devices.ID, key string) string {
	if u, err := ulid.ParseStrict(key); err == nil {
		return u.String()
	}
	h := sha256.Sum256([]byte(c.actor.String() + "\x00" + string(id) + "\x00" + key))
	return ulid.ULID(h[:16]).String()
}

func (c *call) commands() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Commands == nil {
		return unavailable("commands")
	}
	limit, at, err := c.page("commands")
	if err != nil {
		return answer{}, err
	}
	list, next, err := c.api.s.Commands.History(c.Context(), c.actor, d.ID, limit, at)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"commands": orEmpty(list), "next_cursor": cursor("commands", next)})
}

// allCommands lists the commands of every device that the caller may see.
func (c *call) allCommands() (answer, error) {
	if c.actor.Rights&devices.RightRead == 0 {
		return answer{}, devices.Refuse(devices.CodeForbidden, "not allowed")
	}
	if c.api.s.Commands == nil {
		return unavailable("commands")
	}
	limit, at, err := c.page("all-commands")
	if err != nil {
		return answer{}, err
	}
	list, next, err := c.api.s.Commands.All(c.Context(), c.actor, limit, at)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"commands": orEmpty(list), "next_cursor": cursor("all-commands", next)})
}

func (c *call) command() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Commands == nil {
		return unavailable("commands")
	}
	rec, err := c.api.s.Commands.Get(c.Context(), c.actor, d.ID, c.PathValue("cmd_id"))
	if err != nil {
		return answer{}, err
	}
	return ok(rec)
}

func (c *call) cancelCommand() (answer, error) {
	d, err := c.seen()
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Commands == nil {
		return unavailable("commands")
	}
	rec, err := c.api.s.Commands.Cancel(c.Context(), c.actor, c.origin, d.ID, c.PathValue("cmd_id"))
	if err != nil {
		return answer{}, err
	}
	return ok(rec)
}
