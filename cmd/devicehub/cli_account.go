package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) apiTokenCommand() *cobra.Command {
	return group("apitoken", "Service accounts for programs", a.apiTokenAdd(),
		a.listCommand("apitokens", "apitokens", []string{"NAME", "RIGHTS", "SCOPE", "TOPICS", "SINCE", "UNTIL"}, func(raw json.RawMessage) ([]string, error) {
			var s struct {
				Name      string   `json:"name"`
				Rights    []string `json:"rights"`
				Scope     string   `json:"scope"`
				Topics    []string `json:"topics"`
				CreatedAt int64    `json:"created_at"`
				ExpiresAt int64    `json:"expires_at"`
			}
			err := json.Unmarshal(raw, &s)
			return []string{s.Name, strings.Join(s.Rights, ","), scopeText(s.Scope), strings.Join(s.Topics, ","), when(s.CreatedAt), when(s.ExpiresAt)}, err
		}),
		a.command("rm NAME...", "Delete service accounts; their connections end at once", cobra.MinimumNArgs(1), false,
			func(ctx context.Context, c *api, args []string) error {
				for _, name := range args {
					if err := c.call(ctx, "DELETE", apiPath("apitokens", name), nil, nil, nil); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
					fmt.Fprintf(a.err, "service account %s is deleted\n", name)
				}
				return nil
			}))
}

func (a *app) apiTokenAdd() *cobra.Command {
	var (
		rights, topics []string
		scope, ttl     string
		asJSON         bool
	)
	cmd := a.command("add NAME --rights RIGHTS", "Add a service account and print its token", cobra.ExactArgs(1), true,
		func(ctx context.Context, c *api, args []string) error {
			body := map[string]any{"name": args[0], "rights": rights}
			if scope != "" {
				body["scope"] = scope
			}
			if len(topics) > 0 {
				body["topics"] = topics
			}
			if n, err := seconds("ttl", ttl); err != nil {
				return err
			} else if n > 0 {
				body["ttl_s"] = n
			}
			var raw json.RawMessage
			if err := c.call(ctx, "POST", apiPath("apitokens"), nil, body, &raw); err != nil {
				return err
			}
			if asJSON {
				return a.printRaw(raw)
			}
			var more struct {
				Starts []string `json:"starts_adapters"`
			}
			if err := json.Unmarshal(raw, &more); err == nil && len(more.Starts) > 0 {
				fmt.Fprintf(a.err, "these topics start adapters on the hub's own broker: %s\n",
					strings.Join(more.Starts, ", "))
			}
			return a.printToken(raw, "service account "+args[0]+" may "+strings.Join(rights, ", "))
		})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if len(rights) == 0 {
			return usagef("give --rights, of read, command, ingest and admin")
		}
		for _, r := range rights {
			switch r {
			case "read", "command", "ingest", "admin":
			default:
				return usagef("--rights: unknown right %q; known are read, command, ingest and admin", r)
			}
		}
		if _, err := seconds("ttl", ttl); err != nil {
			return err
		}
		return scopeArg(scope)
	}
	cmd.Flags().StringSliceVar(&rights, "rights", nil, "what it may do: read (list, history, live values), command, ingest, admin (change devices and people; admin does not include read)")
	cmd.Flags().StringVar(&scope, "scope", "", "devices it is about, such as area=kitchen (default: every device)")
	cmd.Flags().StringArrayVar(&topics, "topics", nil, "MQTT topic `filter` it may use, as often as needed")
	cmd.Flags().StringVar(&ttl, "ttl", "", "`duration` of the token's life (default: no end)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole answer as JSON")
	return cmd
}

func (a *app) keyCommand() *cobra.Command {
	return group("key", "Keys that sign tokens",
		a.listCommand("keys", "keys", []string{"KID", "STATE", "SINCE", "TOKENS UNTIL"}, func(raw json.RawMessage) ([]string, error) {
			var k struct {
				KID       string `json:"kid"`
				State     string `json:"state"`
				CreatedAt int64  `json:"created_at"`
				UsedUntil int64  `json:"used_until"`
			}
			err := json.Unmarshal(raw, &k)
			return []string{k.KID, k.State, when(k.CreatedAt), when(k.UsedUntil)}, err
		}),
		a.command("rotate", "Make a new signing key; tokens of the old one stay good", cobra.NoArgs, false,
			func(ctx context.Context, c *api, _ []string) error {
				var got struct {
					KID string `json:"kid"`
				}
				if err := c.call(ctx, "POST", apiPath("keys"), nil, struct{}{}, &got); err != nil {
					return err
				}
				fmt.Fprintf(a.err, "new tokens are signed with key %s\n", got.KID)
				return nil
			}),
		a.command("revoke KID", "End a signing key and every token under it at once", cobra.ExactArgs(1), false,
			func(ctx context.Context, c *api, args []string) error {
				var got struct {
					Stranded int64 `json:"stranded"`
				}
				if err := c.call(ctx, "DELETE", apiPath("keys", args[0]), nil, nil, &got); err != nil {
					return err
				}
				fmt.Fprintf(a.err, "key %s is revoked; %d devices need a new token\n", args[0], got.Stranded)
				return nil
			}))
}

func (a *app) traceCommand() *cobra.Command {
	return a.command("trace ID", "Follow what one device sends and gets, one JSON object a line, secrets redacted", oneDevice, false,
		func(ctx context.Context, c *api, args []string) error {
			id := args[0]
			if c.local {
				return fmt.Errorf("no hub runs on this data folder, so there is nothing to follow; start `devicehub serve`, or name a hub elsewhere with --url")
			}
			return a.follow(ctx, c, apiPath("devices", id, "trace"))
		})
}
