#include <moe/instantiate/definitions.hpp>
