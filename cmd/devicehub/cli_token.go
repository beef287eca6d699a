package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) tokenCommand() *cobra.Command {
	return group("token", "Tokens of devices",
		a.tokenMake("issue", "Print one more token of the present generation"),
		a.tokenMake("rotate", "Print the first token of a new generation; the old one ends after --grace"),
		a.command("revoke ID...", "End every token of a device and its sessions at once", someDevices, false,
			func(ctx context.Context, c *api, args []string) error {
				for _, id := range args {
					if err := c.call(ctx, "DELETE", apiPath("devices", id, "tokens"), nil, nil, nil); err != nil {
						return fmt.Errorf("%s: %w", id, err)
					}
					fmt.Fprintf(a.err, "every token of %s is revoked; `devicehub token issue %s` makes a new one\n", id, id)
				}
				return nil
			}))
}

func (a *app) tokenMake(mode, about string) *cobra.Command {
	var (
		ttl, grace, bridge string
		short, asJSON      bool
	)
	var cmd *cobra.Command
	cmd = a.command(mode+" ID", about, oneDevice, false, func(ctx context.Context, c *api, args []string) error {
		id := args[0]
		body := map[string]any{"mode": mode}
		for flag, v := range map[string]string{"ttl": ttl, "grace": grace} {
			n, err := seconds(flag, v)
			if err != nil {
				return err
			}
			if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
				body[flag+"_s"] = n
			}
		}
		if short {
			body["form"] = "short"
		}
		if bridge != "" {
			body["bridge"] = bridge
		}
		var raw json.RawMessage
		if err := c.call(ctx, "POST", apiPath("devices", id, "tokens"), nil, body, &raw); err != nil {
			return err
		}
		if asJSON {
			return a.printRaw(raw)
		}
		return a.printToken(raw, "token for "+id)
	})
	cmd.Flags().StringVar(&ttl, "ttl", "", "`duration` of its life (default auth.token_ttl; 0: no end)")
	cmd.Flags().BoolVar(&short, "short", false, "the short signed form, for small MQTT password fields")
	if mode == "rotate" {
		cmd.Flags().StringVar(&grace, "grace", "", "`duration` that the old generation stays good (default 7d)")
	}
	if mode == "issue" {
		cmd.Flags().StringVar(&bridge, "bridge", "", "make it good on the bridge of this `name` only, for messages that carry it")
		cmd.PreRunE = func(*cobra.Command, []string) error {
			if bridge != "" && short {
				return usagef("--bridge and --short do not go together")
			}
			return nil
		}
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole answer as JSON")
	return cmd
}
