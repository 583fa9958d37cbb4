#pragma once

namespace compare {

/// The files of page/, which the build puts into strings.
extern const char* const page_style;
extern const char* const page_body;
extern const char* const page_start;   ///< script that runs before anything is shown
extern const char* const page_script;  ///< all others, in the order in which they need each other

}  // namespace compare
