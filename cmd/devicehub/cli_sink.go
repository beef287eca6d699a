package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) sinkCommand() *cobra.Command {
	return group("sink", "Where readings are forwarded to",
		a.listCommand("sinks", "sinks", []string{"NAME", "URL", "STATE", "SINCE", "BEHIND", "PUT ASIDE", "ERROR"}, func(raw json.RawMessage) ([]string, error) {
			var s struct {
				Name     string `json:"name"`
				URL      string `json:"url"`
				State    string `json:"state"`
				Since    int64  `json:"since"`
				LagMS    int64  `json:"lag_ms"`
				PutAside int64  `json:"put_aside"`
				Error    string `json:"error"`
			}
			err := json.Unmarshal(raw, &s)
			behind := (time.Duration(s.LagMS) * time.Millisecond).Round(time.Second).String()
			return []string{s.Name, s.URL, s.State, when(s.Since), behind, strconv.FormatInt(s.PutAside, 10), s.Error}, err
		}),
		a.command("replay NAME", "Send again the points that were refused for good and put aside", cobra.ExactArgs(1), false,
			func(ctx context.Context, c *api, args []string) error {
				var r struct{ Taken, Left, Erased int }
				if err := c.call(ctx, "POST", apiPath("sinks", args[0], "replay"), nil, nil, &r); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				fmt.Fprintf(a.err, "%d points were taken, %d were refused again and stay\n", r.Taken, r.Left)
				if r.Erased > 0 {
					fmt.Fprintf(a.err, "%d points were erased: their names are no metrics' names\n", r.Erased)
				}
				return nil
			}))
}
