"""Content of the page of stage `report`, from the runs on disk; without torch, so that the page is made quickly."""
