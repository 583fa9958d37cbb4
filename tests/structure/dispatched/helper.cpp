#include "helper.hpp"

#include "shared.hpp"

std::string compiled_for_helper() { return compiled_for(); }
