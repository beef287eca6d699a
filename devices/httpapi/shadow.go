package httpapi

import (
	"net/http"

	"devicehub/devices"
	"devicehub/devices/shadow"
)

func (c *call) getShadow() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Shadows == nil {
		return unavailable("shadows")
	}
	doc, _ := c.api.s.Shadows.Doc(d.ID)
	return answer{status: http.StatusOK, body: doc, ver: &doc.Ver, live: true}, nil
}

func (c *call) patchShadow() (answer, error) {
	d, err := c.seen()
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Shadows == nil {
		return unavailable("shadows")
	}
	var r shadow.PatchRequest
	if err := c.body(&r); err != nil {
		return answer{}, err
	}
	if r.Expect, err = c.expect(nil); err != nil {
		return answer{}, err
	}
	doc, err := c.api.s.Shadows.Patch(c.Context(), c.actor, c.origin, d.ID, r)
	if err != nil {
		return answer{}, withCurrent(err, func() (any, bool) { doc, _ := c.api.s.Shadows.Doc(d.ID); return doc, true })
	}
	return answer{status: http.StatusOK, body: doc, ver: &doc.Ver}, nil
}
