package main

import (
	_ "embed"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// thirdParty are the licences of everything from others in this binary; `make notices` writes them.
//
//go:embed licenses.txt
var thirdParty string

func (a *app) licensesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "licenses", Short: "Print the licences of what the binary holds from others", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := strings.NewReader(thirdParty).WriteTo(a.out)
			return err
		},
	}
}

// serveLicenses serves them to whoever got the dashboard.
func serveLicenses(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	http.ServeContent(w, r, "licenses.txt", time.Time{}, strings.NewReader(thirdParty))
}
