"""What the page of stage `report` shows of the runs that lie on the disk; without torch, so that it is made at once."""
