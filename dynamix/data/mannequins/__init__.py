"""Mannequins, the embedded benchmark: drawn people, seen by drawn cameras, in worlds written to disk.

`people` and `cameras` draw who is seen and by what; `body` poses a person as a list of round parts and
`dress` says what their surface looks like; `render` turns shots (who, by which camera, from where, when)
into images.
"""
