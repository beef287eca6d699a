package httpapi

import (
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
	return ok(doc)
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
	doc, err := c.api.s.Shadows.Patch(c.Context(), c.actor, c.origin, d.ID, r)
	if err != nil {
		return answer{}, err
	}
	return ok(doc)
}
