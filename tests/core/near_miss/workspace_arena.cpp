// expect: temporary: give the workspace a name
#include <moe/core/workspace.hpp>

#ifdef MOE_MISTAKE
auto use() { return moe::Workspace{}.arena(); }
#else
auto use(moe::Workspace& workspace) { return workspace.arena(); }
#endif
