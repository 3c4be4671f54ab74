"""What a system says where there is no more room."""

import errno

# The disk's end, and that of what one user may have of it.
FULL = (errno.ENOSPC, errno.EDQUOT)
