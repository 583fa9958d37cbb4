#include <moe/instantiate/train_definitions.hpp>
