#include "engine/engine.h"
#include "server/serve.h"

int main(int argc, char** argv) { return sluice::ServerMain(argc, argv, &sluice::Engine::Create); }
