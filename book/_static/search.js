// A page opened from disk may not fetch the others for the lines below each hit: the search then lists titles alone.
if (window.location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
